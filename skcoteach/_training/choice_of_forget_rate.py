"""What to forget, chosen by out-of-sample evidence: which of several trainings explains the given labels best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from skcoteach._noise_likelihood import NoiseFit

#: Before anything is seen, the best forget rate is within this standard deviation of the noise rate.
FORGET_RATE_STD = 0.1
#: Less is not worth forgetting.
MINIMUM_FORGET_RATE = 0.01
#: A candidate that forgets at least this share, and finds this many times as much noise as it forgets, is consistent.
MINIMUM_OF_CONSISTENT, CONSISTENT_SHARE = 0.1, 0.95
#: A candidate finds noise that is counted if it finds this share of it: classes that overlap are counted, too.
COUNTED_SHARE = 0.75
#: Of confident predictions that are a guess between two labels, or worse, nothing follows.
MAXIMUM_OF_COUNTED = 0.5
#: One is nearly as often right as another if it loses no more than this part of what that one has.
NEARLY = 0.03
#: So much noise, if it is more than two standard errors, is certain.
MINIMUM_OF_CERTAIN = 0.05
#: Networks that predict given labels more often by so large a part of the noise rate, where they have seen them, learn
#: wrong labels by heart.
LEARNT_BY_HEART = 0.15
#: So well candidates say what is best.
SPACING = 0.1


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


@dataclass(frozen=True)
class Choice:
    """What follows from the candidates.

    Attributes
    ----------
    number : int
        Of the candidate that is chosen.
    forget_rate : float
        0, or at least ``MINIMUM_FORGET_RATE``.
    noise_rate, noise_rate_std : float
        Share of wrong labels, and its standard error.
    noise_matrix : ndarray of shape (n_classes, n_classes)
        P(given | true).
    """

    number: int
    forget_rate: float
    noise_rate: float
    noise_rate_std: float
    noise_matrix: np.ndarray


def choice_of_several(candidates: Sequence[Candidate], weights: np.ndarray, *, gap: float, counted: float) -> Choice:
    """Of candidates that were trained side by side; the first forgets nothing.

    They end before most wrong labels are learnt by heart, and those that forget learn more slowly, so the evidence
    speaks for forgetting little. That is put right where there certainly is noise, whatever the example looks like, and
    the first one has begun to learn it by heart: then at least as much is forgotten as is wrong. If three or more
    classes are given for each other alike, it is such noise: classes that overlap do not all overlap alike.

    Parameters
    ----------
    candidates : sequence of Candidate
    weights : ndarray of shape (n,)
        Of the examples.
    gap : float
        How much more often the first one predicts the given labels that it has learnt from than others.
    counted : float
        Share of labels that contradict its confident predictions, if they do so whatever the example looks like; 0.
    """
    number, noise_rate, noise_rate_std, noise_matrix = choose(candidates, weights, counted)
    forget_rate = candidates[number].forget_rate
    if forget_rate > 0:
        forget_rate = settled_forget_rate(candidates, number, noise_rate)
    is_certain = noise_rate >= MINIMUM_OF_CERTAIN and noise_rate > 2 * noise_rate_std
    is_of_labels = counted > 0 or candidates[0].fit.n_exchanged > 2
    if is_certain and is_of_labels and gap >= LEARNT_BY_HEART * noise_rate and forget_rate < noise_rate - SPACING / 2:
        number = number or 1 + int(np.argmax([each.fit.log_evidence for each in candidates[1:]]))
        forget_rate = noise_rate
    if forget_rate < MINIMUM_FORGET_RATE:
        forget_rate = 0.0
    return Choice(number, forget_rate, noise_rate, noise_rate_std, noise_matrix)


def choice_of_two(adaptive: Candidate, plain: Candidate, *, is_flat: bool, weights: np.ndarray) -> Choice:
    """Of a candidate that forgets what it finds wrong, and one that forgets nothing.

    Which one explains the labels better is a question of how far they have learnt, rather than of the noise. So the
    noise rate is the mean of what both find, and they differ by its standard error. Only the former is asked if it is
    chosen, but for symmetric noise and two classes: networks that forget nothing learn the mixture of labels that are
    given for each other.

    Parameters
    ----------
    adaptive, plain : Candidate
    is_flat : bool
        Whether labels are wrong as often where the adaptive one is confident.
    weights : ndarray of shape (n,)
        Of the examples.
    """
    forgets = min(adaptive.forget_rate, adaptive.fit.rate) >= MINIMUM_FORGET_RATE and is_worth_forgetting(
        adaptive, plain, is_flat, weights
    )
    asked = [adaptive.fit]
    of_any_kind = len(adaptive.fit.matrix) > 2 and not (adaptive.fit.is_symmetric and plain.fit.is_symmetric)
    if not forgets or not of_any_kind:
        asked.append(plain.fit)
    rates, variances = np.array([(each.rate, each.rate_std**2) for each in asked]).T
    noise_rate = float(rates.mean())
    forgets = forgets and noise_rate >= MINIMUM_FORGET_RATE
    return Choice(
        number=int(not forgets),
        forget_rate=noise_rate if forgets else 0.0,
        noise_rate=noise_rate,
        noise_rate_std=float((variances.mean() + rates.var()) ** 0.5),
        noise_matrix=np.mean([each.matrix for each in asked], axis=0),
    )


def choose(
    candidates: Sequence[Candidate], weights: np.ndarray, counted: float
) -> tuple[int, float, float, np.ndarray]:
    """The best candidate, and what all together say of the noise.

    The evidence of a candidate is the averaged likelihood of the given labels, together with an expectation: what is
    forgotten is about what is wrong.

    Where, of three or more classes, some are given for certain others, networks that forget nothing predict the mixture
    of labels itself, which explains the given labels at least as well as noise does. Then two explanations contradict
    each other: overlapping classes without noise, and a candidate that finds as much noise of this kind as it forgets.
    The likelihood cannot tell them apart, so the latter is taken if it predicts the given labels as often, within two
    standard errors; of several such candidates, the one that forgets the most. If labels contradict the most confident
    predictions whatever the example looks like, overlap is no explanation. Then one that predicts the given labels more
    often by two standard errors need not forget what it finds. If still less noise is found than is counted, the
    candidate with the most evidence is taken that predicts the given labels as often and finds about so much.

    Parameters
    ----------
    candidates : sequence of Candidate
    weights : ndarray of shape (n,)
        Of the examples.
    counted : float
        Share of labels that contradict confident predictions of the first one, if they do so whatever the example looks
        like; 0.

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
    consistent = np.flatnonzero(_is_consistent(candidates) & (rate < rates / 2)).tolist()
    contradicting = [
        each
        for each in sorted(consistent, key=lambda each: -forget_rates[each])
        if _as_often_right(candidates[each].right, candidates[chosen].right, weights)
    ]
    if counted > 0:
        contradicting += _better_with_noise(candidates, weights)
    found = float(rates[contradicting[0]]) if contradicting else rate
    if found < COUNTED_SHARE * counted:
        contradicting = _that_find(counted, candidates, weights) or contradicting
    if contradicting:
        other = contradicting[0]
        return other, float(rates[other]), float(stds[other]), candidates[other].fit.matrix
    matrix = np.tensordot(_shares(candidates), np.stack([each.fit.matrix for each in candidates]), 1)
    return chosen, rate, std, matrix / matrix.sum(axis=0)  # the shares sum to one but for rounding


def is_worth_forgetting(adaptive: Candidate, plain: Candidate, is_flat: bool, weights: np.ndarray) -> bool:
    """Whether a pair that forgets what it finds wrong is to be preferred to one that forgets nothing.

    It is if it explains the given labels no worse. But trainings of a few epochs speak for forgetting nothing, as wrong
    labels are learnt by heart in later ones. So it is, too, if labels are wrong whatever the example looks like, and if
    it predicts the given labels nearly as often: what it has forgotten was not needed to learn the others.

    Parameters
    ----------
    adaptive, plain : Candidate
    is_flat : bool
        Whether labels are as often wrong where the adaptive pair is confident.
    weights : ndarray of shape (n,)
        Of the examples.
    """
    if adaptive.fit.log_evidence >= plain.fit.log_evidence:
        return True
    lost = weights @ plain.right - weights @ adaptive.right
    nearly = lost <= NEARLY * (weights @ plain.right) or _as_often_right(adaptive.right, plain.right, weights)
    return is_flat and bool(nearly)


def settled_forget_rate(candidates: Sequence[Candidate], chosen: int, noise_rate: float) -> float:
    """What to forget where a candidate is chosen that forgets.

    As much as is wrong, but no more than ``SPACING`` more or less than the chosen one: they differ by as much, and the
    best of them is the best by chance, too. What the chosen one forgets itself, if the candidate that is the nearest to
    the noise rate explains the labels worse by more than two standard errors.
    """
    forget_rate = candidates[chosen].forget_rate
    nearest = min(candidates, key=lambda each: abs(each.forget_rate - noise_rate)).fit
    more = candidates[chosen].fit.log_evidence - nearest.log_evidence
    error = np.linalg.norm(candidates[chosen].fit.log_likelihoods - nearest.log_likelihoods)
    if more > 2 * error:
        return forget_rate
    return min(max(noise_rate, forget_rate - SPACING), forget_rate + SPACING)


def promising(candidates: Sequence[Candidate], n: int, weights: np.ndarray, counted: float) -> list[int]:
    """So many candidates that are worth while to go on with, in their order.

    The first one, which is to forget nothing; the consistent one that forgets the most, or else the best of those that
    :func:`choose` could take for another reason; and those with the most evidence.
    """
    forget_rates, *_ = _numbers(candidates)
    evidence, *_ = _evidence(candidates)
    kept = {0}
    consistent = np.flatnonzero(_is_consistent(candidates))
    if len(consistent):
        kept.add(int(consistent[forget_rates[consistent].argmax()]))
    else:
        better = _better_with_noise(candidates, weights) if counted > 0 else []
        kept.update((better or _that_find(counted, candidates, weights))[:1])
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


def _is_of_certain_classes(candidates: Sequence[Candidate]) -> np.ndarray:
    """Whether each forgets, and finds that some of three or more classes are given for certain others."""
    found = [
        each.forget_rate >= MINIMUM_FORGET_RATE and len(each.fit.matrix) > 2 and not each.fit.is_symmetric
        for each in candidates
    ]
    return np.array(found)


def _is_consistent(candidates: Sequence[Candidate]) -> np.ndarray:
    """Whether each finds as much noise of certain classes as it forgets."""
    forget_rates, rates, _ = _numbers(candidates)
    enough = (forget_rates >= MINIMUM_OF_CONSISTENT) & (rates >= CONSISTENT_SHARE * forget_rates)
    return _is_of_certain_classes(candidates) & enough


def _better_with_noise(candidates: Sequence[Candidate], weights: np.ndarray) -> list[int]:
    """Candidates that find noise of certain classes, and predict the given labels more often than the best by evidence.

    More often by two standard errors, where the evidence speaks of less than half as much noise. The one that does so
    the most often comes first.
    """
    forget_rates, rates, _ = _numbers(candidates)
    evidence, rate, _ = _evidence(candidates)
    best = candidates[int(evidence.argmax())].right
    enough = (forget_rates >= MINIMUM_OF_CONSISTENT) & (rate < rates / 2)
    found = np.flatnonzero(_is_of_certain_classes(candidates) & enough).tolist()
    better = [each for each in found if not _as_often_right(best, candidates[each].right, weights)]
    return sorted(better, key=lambda each: -(weights @ candidates[each].right))


def _that_find(counted: float, candidates: Sequence[Candidate], weights: np.ndarray) -> list[int]:
    """Candidates that find about as much noise of certain classes as is counted, those with the most evidence first.

    Only those that predict the given labels as often as the one for which the most speaks.
    """
    if not 0 < counted < MAXIMUM_OF_COUNTED:
        return []
    _, rates, _ = _numbers(candidates)
    evidence, *_ = _evidence(candidates)
    best = candidates[int(evidence.argmax())].right
    found = np.flatnonzero(_is_of_certain_classes(candidates) & (rates >= COUNTED_SHARE * counted)).tolist()
    as_good = [each for each in found if _as_often_right(candidates[each].right, best, weights)]
    return sorted(as_good, key=lambda each: -candidates[each].fit.log_evidence)


def _as_often_right(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> bool:
    """Whether one is not right less often than the other by more than two standard errors of the difference."""
    difference = one.astype(float) - other
    return bool(weights @ difference >= -2 * np.sqrt(weights @ difference**2))
