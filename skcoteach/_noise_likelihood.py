"""How noisy labels are, by maximum likelihood: given labels are draws from tempered probabilities, mixed by noise.

The model of an example with the probabilities ``p`` of networks that have not seen its label: the true class is drawn
from ``q = softmax(log p / temperature)``, and the given label from the column of the noise matrix of this class. That
classes overlap is explained by ``q``, wrong labels by the matrix. What is not known about temperature and rate is
averaged over, so that the rate has a standard error.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from skcoteach._arrays import blocks

#: Probabilities are mixed with so much of the uniform ones: none is taken for certain.
UNIFORM_SHARE = 1e-8
#: Temperatures that are tried, and how likely each is before anything is seen: their logarithms are normal around 0.
TEMPERATURES = np.exp(np.linspace(np.log(0.2), np.log(20.0), 33))
LOG_PRIOR = -(np.log(TEMPERATURES) ** 2) / 2
LOG_PRIOR -= np.logaddexp.reduce(LOG_PRIOR)
#: Weight of examples with which each column of a free noise matrix is drawn towards the symmetric one.
PSEUDO_WEIGHT = 5.0
#: A column of the noise matrix is settled when no entry moves by more.
MATRIX_TOLERANCE, MAXIMUM_ITERATIONS, ITERATIONS_PER_TEMPERATURE = 1e-4, 60, 6
#: Shares of true classes are settled when none of their parts moves by more.
SHARE_TOLERANCE, MAXIMUM_SHARE_ITERATIONS = 1e-7, 2000
#: The strength of the noise is found so exactly.
STRENGTH_TOLERANCE = 1e-5
#: Of more examples, so many are drawn.
MAXIMUM_EXAMPLES = 2**16
#: A class with less than this part of the mean weight of a class may have no more than its share of wrong labels.
RARE = 0.1
#: Noise goes up to this part of that at which the right label is no more frequent than another.
MARGIN = 0.98


@dataclass(frozen=True)
class NoiseFit:
    """What is found.

    Attributes
    ----------
    log_evidence : float
        Log likelihood of the given labels, averaged over what is not known. Free noise matrices pay for their freedom.
    rate, rate_std : float
        Share of wrong labels and its standard error.
    matrix : ndarray of shape (n_classes, n_classes)
        P(given | true).
    joint : ndarray of shape (n_classes, n_classes)
        P(given, true) among the examples; it sums to one.
    temperature : float
    confidence : float
        Mean probability of the most likely true class, before the given label is seen; averaged over temperatures.
    log_likelihoods : ndarray of shape (n,)
        Of the given labels, times the square roots of their weights; 0 where an example does not count.
    n_exchanged : int
        So many classes are given for each other, all with the same probability, if that explains the labels best; 0.
    """

    log_evidence: float
    rate: float
    rate_std: float
    matrix: np.ndarray
    joint: np.ndarray
    temperature: float
    confidence: float
    log_likelihoods: np.ndarray
    n_exchanged: int = 0

    @property
    def is_symmetric(self) -> bool:
        """Whether there is noise, and classes are given for each other with the same probability."""
        return self.n_exchanged > 0


@dataclass(frozen=True)
class _Labels:
    """Given labels and the logarithms of probabilities less their largest, of examples that have weight.

    A row for each class: sums over a short last axis are slow.
    """

    codes: np.ndarray
    logits: np.ndarray
    weights: np.ndarray
    right: np.ndarray
    sure: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> "_Labels":
        """With the probability of each given label, and the mean of the largest, at each temperature."""
        right, sure = [], []
        logits = np.ascontiguousarray(logits.T)
        logits -= logits.max(axis=0)
        for each in TEMPERATURES:
            true = _tempered(logits, each)
            right.append(true[codes, np.arange(len(codes))])
            sure.append(true.max(axis=0) @ weights / weights.sum())
        return cls(codes, logits, weights, np.stack(right), np.array(sure))

    @property
    def n_classes(self) -> int:
        return len(self.logits)

    def true(self, temperature: float) -> np.ndarray:
        """Probabilities of the true classes, before the given label is seen."""
        return _tempered(self.logits, temperature)

    def likelihoods(self, temperature: float, matrix: np.ndarray) -> np.ndarray:
        """Of each given label."""
        return self._mixed(self.true(temperature), matrix)

    def gains(self, changes: Sequence[np.ndarray]) -> np.ndarray:
        """What is added to the likelihoods at each temperature where each of these is added to the noise matrix.

        Of shape (n_changes, n_temperatures, n).
        """
        each_true = map(self.true, TEMPERATURES)
        return np.stack([[self._mixed(true, change) for change in changes] for true in each_true], axis=1)

    def _mixed(self, true: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return np.einsum("ki,ki->i", true, matrix.T.take(self.codes, axis=1))


def _tempered(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits the largest of which is 0."""
    true = np.exp(logits / temperature)
    true /= true.sum(axis=0)
    return true


def fit_noise(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> NoiseFit:
    """Compare three explanations of given labels: no noise, symmetric noise, noise of any kind.

    Symmetric noise may be among all classes, or among those that are not rare.

    Parameters
    ----------
    codes : ndarray of shape (n,), int
        Given labels as class numbers.
    pred_probs : ndarray of shape (n, n_classes), floating
        Out-of-sample probabilities.
    weights : ndarray of shape (n,), floating
        Weight 2 counts as the example twice.

    Returns
    -------
    NoiseFit
        Of the explanation with the most evidence.
    """
    kept = drawn(np.flatnonzero(weights > 0), MAXIMUM_EXAMPLES)
    labels = _Labels.of(codes[kept], np.log(smoothed(pred_probs[kept])), weights[kept].astype(np.float64))
    best = _best_explanation(labels)
    of_all = np.zeros(len(codes))
    of_all[kept] = best.log_likelihoods
    return dataclasses.replace(best, log_likelihoods=of_all)


def _best_explanation(labels: _Labels) -> NoiseFit:
    none = _no_noise(labels)
    if labels.n_classes == 1:
        return none
    of_any = [_symmetric_noise(labels), _symmetric_but_for_rare(labels)]
    symmetric = max((each for each in of_any if each is not None), key=lambda each: each.log_evidence)
    free = _free_noise(labels, [(symmetric.temperature, symmetric.rate), (0.5, 0.4)])
    best = max([none, symmetric, *free], key=lambda each: each.log_evidence)
    if best is none:  # how large could it be nonetheless
        odds = np.exp(min(symmetric.log_evidence - none.log_evidence, 0.0))
        std = np.sqrt(odds / (1 + odds) * (symmetric.rate**2 + symmetric.rate_std**2))
        return dataclasses.replace(none, rate_std=float(std))
    return best


def drawn(indices: np.ndarray, n: int) -> np.ndarray:
    """So many of the indices at most, in their order; the same ones whenever it is asked."""
    if len(indices) <= n:
        return indices
    return indices[np.sort(np.random.default_rng(0).permutation(len(indices))[:n])]


def smoothed(pred_probs: np.ndarray) -> np.ndarray:
    """Probabilities none of which is zero, float64."""
    return (1 - UNIFORM_SHARE) * pred_probs.astype(np.float64) + UNIFORM_SHARE / pred_probs.shape[1]


def likely_joint(matrix: np.ndarray, given: np.ndarray) -> np.ndarray:
    """P(given, true) by these noise matrix and shares of the given classes alone, (n_classes, n_classes).

    The shares of the true classes are the most likely ones, by expectation maximisation; none is negative.
    """
    joint = matrix * given
    for _ in range(MAXIMUM_SHARE_ITERATIONS):
        before = joint
        joint = matrix * joint.sum(axis=0)
        joint *= (given / np.maximum(joint.sum(axis=1), np.finfo(float).tiny))[:, None]
        if np.abs(joint - before).max() < SHARE_TOLERANCE:
            break
    return joint


def probability_right(codes: np.ndarray, pred_probs: np.ndarray, matrix: np.ndarray, temperature: float) -> np.ndarray:
    """How likely each given label is the true one, given example and label, (n,) float64; by the model above.

    Where every class is given for every other alike, the order is that of the probabilities of the given labels. Else
    labels are suspicious that are often given for the class that is likely.
    """
    right = np.empty(len(codes))
    for rows in blocks(len(codes)):
        joint = smoothed(pred_probs[rows]) ** (1 / temperature) * matrix[codes[rows]]
        right[rows] = joint[np.arange(len(joint)), codes[rows]] / joint.sum(axis=1)
    return right


def _no_noise(labels: _Labels) -> NoiseFit:
    evidences = np.log(labels.right) @ labels.weights + LOG_PRIOR
    return _found(labels, evidences, 0.0, 0.0, np.eye(labels.n_classes))


def _symmetric_noise(labels: _Labels) -> NoiseFit:
    """Any other class is given for any class, with the same probability."""
    n_classes = labels.n_classes
    largest = MARGIN * (n_classes - 1) / n_classes
    gains = (1 - labels.right) / (n_classes - 1) - labels.right
    evidences, rate, std = _averaged(labels.right, gains, labels.weights, largest)
    found = _found(labels, evidences, rate, std, symmetric_matrix(rate, n_classes))
    return dataclasses.replace(found, n_exchanged=n_classes if rate > 0 else 0)


def _symmetric_but_for_rare(labels: _Labels) -> NoiseFit | None:
    """As symmetric noise, but rare classes are given by mistake as often as they are given; None if there are none."""
    given = np.bincount(labels.codes, labels.weights, labels.n_classes) / labels.weights.sum()
    is_rare = given < RARE / labels.n_classes
    n_frequent = int((~is_rare).sum())
    if n_frequent < 2 or not is_rare.any():
        return None
    wrong = np.where(is_rare, given, 0)[:, None] * np.ones(labels.n_classes)
    np.fill_diagonal(wrong, 0)
    left = 1 - wrong.sum(axis=0)
    wrong[~is_rare] = left / np.where(is_rare, n_frequent, n_frequent - 1)
    np.fill_diagonal(wrong, 0)
    largest = MARGIN / (1 + wrong.max())
    change = wrong - np.eye(labels.n_classes)
    (gains,) = labels.gains([change])
    evidences, rate, std = _averaged(labels.right, gains, labels.weights, largest)
    found = _found(labels, evidences, rate, std, np.eye(labels.n_classes) + rate * change)
    return dataclasses.replace(found, n_exchanged=n_frequent if rate > 0 else 0)


def _free_noise(labels: _Labels, starts: Sequence[tuple[float, float]]) -> list[NoiseFit]:
    """Any noise matrix in which the right label is the most frequent one; how strong it is, is averaged over.

    From each of the starts, temperatures and rates, unless what is found there is no noise.
    """
    matrices = [_most_likely_matrix(labels, *start) for start in starts]
    changes = [matrix - np.eye(labels.n_classes) for matrix, _ in matrices]
    weight = labels.weights.sum()
    found = []
    for change, gains, (matrix, counts) in zip(changes, labels.gains(changes), matrices, strict=True):
        full_rate = float(counts.sum(axis=0) / weight @ -change.diagonal())
        if full_rate < MATRIX_TOLERANCE:
            continue
        largest = MARGIN / (off_diagonal_part(matrix).max(axis=0) - change.diagonal()).max()
        evidences, strength, std = _averaged(labels.right, gains, labels.weights, largest)
        wrong = off_diagonal_part(counts)
        n_free = (wrong / (wrong + 1)).sum() - 1  # of the entries those that any example speaks of
        evidences -= max(n_free, 0.0) * (np.log(weight) / 2 + np.log(labels.n_classes - 1))  # each chosen from a column
        weakened = np.eye(labels.n_classes) + strength * change
        found.append(_found(labels, evidences, strength * full_rate, std * full_rate, weakened))
    return found


def _found(labels: _Labels, evidences: np.ndarray, rate: float, std: float, matrix: np.ndarray) -> NoiseFit:
    """With the log evidence of each temperature."""
    evidence = float(np.logaddexp.reduce(evidences))
    shares = np.exp(evidences - evidence)
    temperature = float(np.exp(shares @ np.log(TEMPERATURES)))
    joint = _counts(labels, labels.true(temperature), matrix)
    return NoiseFit(
        log_evidence=evidence,
        rate=rate,
        rate_std=std,
        matrix=matrix,
        joint=joint / joint.sum(),
        temperature=temperature,
        confidence=float(shares @ labels.sure),
        log_likelihoods=labels.weights**0.5 * np.log(labels.likelihoods(temperature, matrix)),
    )


def _averaged(
    right: np.ndarray, gains: np.ndarray, weights: np.ndarray, largest: float
) -> tuple[np.ndarray, float, float]:
    """Average over temperature and strength of the noise, where labels have likelihoods ``right + strength * gain``.

    For every temperature the log likelihood is concave in the strength; around its optimum in [0, largest] it is taken
    for a parabola.

    Returns
    -------
    log_evidences : ndarray of shape (n_temperatures,)
    strength, std : float
    """
    optimum = _optimum(right, gains, weights, largest)
    slope, curvature = _slope_and_curvature(right, gains, weights, optimum)
    peak = np.log(right + optimum[:, None] * gains) @ weights + slope**2 / (2 * curvature)
    centre, width = optimum + slope / curvature, curvature**-0.5
    lower, upper = -centre / width, (largest - centre) / width
    flipped = lower > 0  # towards the tail that can be computed
    a, b = np.where(flipped, -upper, lower), np.where(flipped, -lower, upper)
    log_mass = log_ndtr(b) + np.log1p(-np.exp(np.minimum(log_ndtr(a) - log_ndtr(b), -1e-12)))
    evidences = peak + np.log(width * np.sqrt(2 * np.pi) / largest) + log_mass + LOG_PRIOR
    at_lower, at_upper = (np.exp(-(each**2) / 2 - log_mass) / np.sqrt(2 * np.pi) for each in (lower, upper))
    means = np.clip(centre + width * (at_lower - at_upper), 0, largest)
    spread = 1 + lower * at_lower - upper * at_upper - (at_lower - at_upper) ** 2
    variances = np.clip(width**2 * spread, 0, largest**2)
    shares = np.exp(evidences - np.logaddexp.reduce(evidences))
    mean = shares @ means
    variance = max(shares @ (variances + means**2) - mean**2, 0.0)
    return evidences, float(mean), float(variance**0.5)


def _optimum(right: np.ndarray, gains: np.ndarray, weights: np.ndarray, largest: float) -> np.ndarray:
    """The most likely strength for every temperature: Newton's method, where it is not at one of the bounds."""
    bounds = np.full(len(right), STRENGTH_TOLERANCE), np.full(len(right), largest - STRENGTH_TOLERANCE)
    rises_at_lower, rises_at_upper = (_slope_and_curvature(right, gains, weights, each)[0] > 0 for each in bounds)
    found = np.where(rises_at_upper, bounds[1], bounds[0])
    inside = np.flatnonzero(rises_at_lower & ~rises_at_upper)
    right, gains, lower, upper = right[inside], gains[inside], bounds[0][inside], bounds[1][inside]
    strength = np.full(len(inside), largest / 4)
    for _ in range(25):
        slope, curvature = _slope_and_curvature(right, gains, weights, strength)
        lower, upper = np.where(slope > 0, strength, lower), np.where(slope > 0, upper, strength)
        step = strength + slope / curvature
        step = np.where(step <= lower, (strength + lower) / 2, np.where(step >= upper, (strength + upper) / 2, step))
        moved, strength = np.abs(step - strength).max(initial=0.0), step
        if moved < STRENGTH_TOLERANCE:
            break
    found[inside] = strength
    return found


def _slope_and_curvature(
    right: np.ndarray, gains: np.ndarray, weights: np.ndarray, strength: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First derivative of the log likelihood by the strength, and the second one with its sign changed."""
    ratios = gains / (right + strength[:, None] * gains)
    return ratios @ weights, np.maximum((ratios * ratios) @ weights, 1e-9)


def _most_likely_matrix(labels: _Labels, temperature: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Expectation maximisation for noise matrix and temperature; the last expected counts of given and true labels."""
    n_classes, weight = labels.n_classes, labels.weights.sum()
    matrix = symmetric_matrix(min(max(rate, 0.02), 0.6), n_classes)
    true = labels.true(temperature)
    counts = np.zeros_like(matrix)
    for iteration in range(MAXIMUM_ITERATIONS):
        if iteration and iteration % ITERATIONS_PER_TEMPERATURE == 0:
            temperature = _better_temperature(labels, matrix, temperature)
            true = labels.true(temperature)
        counts = _counts(labels, true, matrix)
        prior = PSEUDO_WEIGHT * symmetric_matrix(float(1 - counts.trace() / weight), n_classes)
        columns = counts + prior
        right_at_least = off_diagonal_part(columns).max(axis=0)
        np.fill_diagonal(columns, np.maximum(columns.diagonal(), right_at_least))
        before, matrix = matrix, columns / columns.sum(axis=0)
        if np.abs(matrix - before).max() < MATRIX_TOLERANCE:
            break
    return matrix, counts


def _better_temperature(labels: _Labels, matrix: np.ndarray, temperature: float) -> float:
    """Up or down the likelihood, by 15 % a step."""

    def log_likelihood(each: float) -> float:
        return labels.weights @ np.log(labels.likelihoods(each, matrix))

    here = log_likelihood(temperature)
    for factor in (1.15, 1 / 1.15):
        while TEMPERATURES[0] < temperature * factor < TEMPERATURES[-1]:
            there = log_likelihood(temperature * factor)
            if there <= here:
                break
            temperature, here = temperature * factor, there
    return temperature


def _counts(labels: _Labels, true: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Expected weight of each given class, in rows, and true class."""
    shares = true * matrix.T.take(labels.codes, axis=1)
    shares *= labels.weights / shares.sum(axis=0)
    return np.stack([np.bincount(labels.codes, each, labels.n_classes) for each in shares], axis=1)


def symmetric_matrix(rate: float, n_classes: int) -> np.ndarray:
    """P(given | true) of symmetric noise."""
    off_diagonal = rate / max(n_classes - 1, 1)
    return np.full((n_classes, n_classes), off_diagonal) + np.eye(n_classes) * (1 - rate - off_diagonal)


def off_diagonal_part(matrix: np.ndarray) -> np.ndarray:
    """The matrix without its diagonal."""
    return matrix * (1 - np.eye(len(matrix)))
