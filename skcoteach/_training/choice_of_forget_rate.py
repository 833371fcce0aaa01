"""What to forget, chosen by out-of-sample evidence: which of several trainings explains the given labels best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from skcoteach._noise_likelihood import NoiseFit

#: Before anything is seen, the best forget rate is within this standard deviation of the noise rate.
FORGET_RATE_STD = 0.1
#: A candidate that forgets at least this share, and finds this many times as much noise as it forgets, is consistent.
MINIMUM_FORGET_RATE, CONSISTENT_SHARE = 0.1, 0.95


@dataclass(frozen=True)
class Candidate:
    """A training on parts of the data, judged by the labels that it has not seen.

    Attributes
    ----------
    forget_rate : float
    fit : NoiseFit
        How its probabilities explain the given labels.
    right : ndarray of shape (n,), bool
        Whether the class that it predicts for an example is the given one.
    """

    forget_rate: float
    fit: NoiseFit
    right: np.ndarray


def choose(candidates: Sequence[Candidate], weights: np.ndarray) -> tuple[int, float, float, np.ndarray]:
    """The best candidate, and what all together say of the noise.

    The evidence of a candidate is the averaged likelihood of the given labels, together with an expectation: what is
    forgotten is about what is wrong.

    Where, of three or more classes, some are given for certain others, networks that forget nothing predict the mixture
    of labels itself, which explains the given labels at least as well as noise does. Then two explanations contradict
    each other: overlapping classes without noise, and a candidate that finds as much noise of this kind as it forgets.
    The likelihood cannot tell them apart, so the latter is taken if it predicts the given labels as often, within two
    standard errors; of several such candidates, the one that forgets the most.

    Parameters
    ----------
    candidates : sequence of Candidate
    weights : ndarray of shape (n,)
        Of the examples.

    Returns
    -------
    chosen : int
    noise_rate, noise_rate_std : float
        Mean over the candidates, by their evidence, and its standard error.
    noise_matrix : ndarray of shape (n_classes, n_classes)
        P(given | true), the same mean.
    """
    forget_rates, rates, stds = _numbers(candidates)
    evidence, rate, std = _evidence(candidates)
    chosen = int(evidence.argmax())
    contradicting = _is_consistent(candidates) & (rate < rates / 2)
    for other in sorted(np.flatnonzero(contradicting).tolist(), key=lambda each: -forget_rates[each]):
        if _as_often_right(candidates[other].right, candidates[chosen].right, weights):
            return other, float(rates[other]), float(stds[other]), candidates[other].fit.matrix
    matrices = np.stack([each.fit.matrix for each in candidates])
    return chosen, rate, std, np.tensordot(_shares(candidates), matrices, 1)


def promising(candidates: Sequence[Candidate], n: int) -> list[int]:
    """So many candidates that are worth while to go on with, in their order.

    The first one, which is to forget nothing; the consistent one that forgets the most; and those with the most
    evidence.
    """
    forget_rates, *_ = _numbers(candidates)
    evidence, *_ = _evidence(candidates)
    kept = {0}
    consistent = np.flatnonzero(_is_consistent(candidates))
    if len(consistent):
        kept.add(int(consistent[forget_rates[consistent].argmax()]))
    for each in np.argsort(-evidence, kind="stable"):
        if len(kept) < n:
            kept.add(int(each))
    return sorted(kept)


def _numbers(candidates: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forget rates, noise rates and the standard errors of these."""
    found = [(each.forget_rate, each.fit.rate, each.fit.rate_std) for each in candidates]
    forget_rates, rates, stds = np.array(found).T
    return forget_rates, rates, stds


def _evidence(candidates: Sequence[Candidate]) -> tuple[np.ndarray, float, float]:
    """Of each candidate, with what is expected of its forget rate; noise rate by all of them and its standard error."""
    forget_rates, rates, stds = _numbers(candidates)
    evidence, shares = np.array([each.fit.log_evidence for each in candidates]), _shares(candidates)
    mean = float(shares @ rates)
    std = max(shares @ (stds**2 + rates**2) - mean**2, 0.0) ** 0.5
    return evidence - ((forget_rates - mean) / FORGET_RATE_STD) ** 2 / 2, mean, float(std)


def _shares(candidates: Sequence[Candidate]) -> np.ndarray:
    """How likely it is that each is the right explanation."""
    return softmax([each.fit.log_evidence for each in candidates])


def _is_consistent(candidates: Sequence[Candidate]) -> np.ndarray:
    """Whether each finds as much as it forgets, and that some of three or more classes are given for certain others."""
    forget_rates, rates, _ = _numbers(candidates)
    of_that_kind = np.array([len(each.fit.matrix) > 2 and not each.fit.is_symmetric for each in candidates])
    return of_that_kind & (forget_rates >= MINIMUM_FORGET_RATE) & (rates >= CONSISTENT_SHARE * forget_rates)


def _as_often_right(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> bool:
    """Whether one is not right less often than the other by more than two standard errors of the difference."""
    difference = one.astype(float) - other
    return bool(weights @ difference >= -2 * np.sqrt(weights @ difference**2))
