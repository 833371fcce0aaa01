"""How noisy the labels are, and which of them are wrong: statistics of given labels and probabilities.

The probabilities must be out-of-sample, of a model that has not seen the labels that they are compared with. How the
estimator gets them for its own training data is in ``crossfit``.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.utils import check_array

from skcoteach._sklearn import check_sample_weight
from skcoteach._arrays import to_host

#: Share of each predicted class, the most confident part, in which given labels are counted.
CONFIDENT_SHARE = 0.5

#: Of each given class at least this share is taken to be right, so that something is left to learn from.
MINIMUM_RIGHT_SHARE = 0.05

#: Logits are never divided by more.
MAXIMUM_TEMPERATURE = 20.0


class NoiseEstimate(NamedTuple):
    """What :func:`estimate_noise` returns.

    Attributes
    ----------
    noise_rate : float
        Share of wrong labels.
    noise_matrix : ndarray of shape (n_classes, n_classes), float64
        P(given | true): a row for each given class, a column for each true class; columns sum to one.
    """

    noise_rate: float
    noise_matrix: np.ndarray


def estimate_noise(labels: Any, pred_probs: Any, *, sample_weight: Any = None, classes: Any = None) -> NoiseEstimate:
    """Estimate the share of wrong labels, and which class is mistaken for which.

    For every class, the examples are taken that the model predicts as this class with more confidence than the median:
    among these, nearly all are what the model says, so the given labels that differ are wrong ones. Their shares are
    the columns of the noise matrix. Like the confident joint of confident learning, the counts are calibrated so that
    the given classes are as frequent as they are; unlike it, the model's own mistakes, most of which are made with
    little confidence, are hardly counted as noise.

    The noise may depend on the class, but is taken to be independent of the example otherwise. Where hard examples are
    mislabelled more often than easy ones, the estimate is too low; where classes overlap so much that even confident
    predictions are often wrong, it is too high.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        Given labels.
    pred_probs : array-like of shape (n_samples, n_classes), floating
        Out-of-sample probabilities of any classifier, for example of
        ``cross_val_predict(..., method="predict_proba")``: a column for each class, in sorted order.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight 2 counts as the example twice, weight 0 as its absence.
    classes : array-like of shape (n_classes,), default=None
        The classes of the columns, sorted. None: those that occur in ``labels``, or ``0 ... n_classes - 1`` if the
        labels are such integers.

    Returns
    -------
    NoiseEstimate
        Named tuple of ``noise_rate`` and ``noise_matrix``. With the shares of the true classes for which
        ``noise_matrix @ shares`` are those of the given ones, the noise matrix implies the noise rate.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, if rows of ``pred_probs`` are no probabilities, or if weights are negative
        or all zero.

    References
    ----------
    Northcutt, Jiang, Chuang: "Confident learning: Estimating uncertainty in dataset labels", JAIR 70, 2021, section
    3.1 (arXiv:1911.00068): the confident joint and its calibration. Patrini et al.: "Making deep neural networks robust
    to label noise", CVPR 2017, equation 12 (arXiv:1609.03683): noise read off from the most confident examples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import cross_val_predict
    >>> X, y = load_digits(return_X_y=True)
    >>> given = y.copy()
    >>> given[::5] = (given[::5] + 1) % 10  # every fifth label is wrong
    >>> forest = RandomForestClassifier(min_samples_leaf=3, random_state=0)
    >>> noise_rate, noise_matrix = estimate_noise(given, cross_val_predict(forest, X, given, method="predict_proba"))
    >>> round(noise_rate, 1)
    0.2
    >>> noise_matrix.shape
    (10, 10)
    """
    pred_probs = check_array(to_host(pred_probs), dtype=np.float64, input_name="pred_probs")
    labels = np.asarray(to_host(labels))
    if labels.ndim != 1 or len(labels) != len(pred_probs):
        raise ValueError(
            f"labels must be one label for each of the {len(pred_probs)} rows of pred_probs; got shape {labels.shape}."
        )
    if (pred_probs < 0).any() or not np.allclose(pred_probs.sum(axis=1), 1, atol=1e-3):
        raise ValueError("pred_probs must hold probabilities: rows of numbers in [0, 1] that sum to one.")
    codes = _codes(labels, pred_probs.shape[1], classes)
    weights = check_sample_weight(to_host(sample_weight), labels, dtype=np.float64, ensure_non_negative=True)
    joint = estimate_joint(codes, pred_probs, weights)
    return NoiseEstimate(rate_of(joint), matrix_of(joint))


def _codes(labels: np.ndarray, n_classes: int, classes: Any) -> np.ndarray:
    """The column of each label."""
    if any(label is None or label != label for label in labels.tolist()):
        raise ValueError("labels contains NaN or None; every example needs a given label.")
    try:
        found = np.unique(labels)
    except TypeError as error:
        raise ValueError(f"labels cannot be sorted, they are of different types: {error}.") from error
    if classes is None:
        numbered = found.dtype.kind in "iu" and found[0] >= 0 and found[-1] < n_classes
        classes = np.arange(n_classes) if numbered else found
    classes = np.asarray(to_host(classes))
    if not np.array_equal(classes, np.unique(classes)):
        raise ValueError(f"classes must be sorted, without repetition, as the columns are; got {classes.tolist()}.")
    if len(classes) != n_classes:
        raise ValueError(
            f"pred_probs has {n_classes} columns, but there are {len(classes)} classes: {classes.tolist()}. One column "
            "for each class is needed; name the classes of the columns with classes=..."
        )
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise ValueError(f"labels holds {unknown.tolist()}, which are not among the classes {classes.tolist()}.")
    return np.searchsorted(classes, labels)


def estimate_joint(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Joint distribution of given and true classes, (n_classes, n_classes), given classes in rows, summing to one.

    Its rows sum to the weighted shares of the given classes. (``cleanlab.count`` takes no weights.)
    """
    n_classes = pred_probs.shape[1]
    predicted, confidence = pred_probs.argmax(axis=1), pred_probs.max(axis=1)
    joint = np.zeros((n_classes, n_classes))
    for k in range(n_classes):
        rows = np.flatnonzero((predicted == k) & (weights > 0))
        if len(rows):
            confident = rows[confidence[rows] >= _upper_quantile(confidence[rows], weights[rows])]
            counts = np.bincount(codes[confident], weights[confident], n_classes)
            joint[:, k] = counts / counts.sum() * weights[rows].sum()
    given = np.bincount(codes, weights, n_classes) / weights.sum()
    unexplained = joint.sum(axis=1) == 0  # given classes that no confident example has: taken to be right
    joint[unexplained, unexplained] = 1
    joint /= joint.sum(axis=1, keepdims=True)
    right = joint.diagonal().clip(MINIMUM_RIGHT_SHARE)
    wrong = joint * (1 - np.eye(n_classes))
    all_wrong = wrong.sum(axis=1)
    wrong *= ((1 - right) / np.where(all_wrong > 0, all_wrong, 1))[:, None]
    return (wrong + np.diag(right)) * given[:, None]


def _upper_quantile(values: np.ndarray, weights: np.ndarray) -> float:
    """The largest of the values that at least ``CONFIDENT_SHARE`` of the weight reaches."""
    order = np.argsort(-values)
    reached = weights[order].cumsum()
    return values[order[np.searchsorted(reached, CONFIDENT_SHARE * reached[-1] * (1 - 1e-12))]]


def rate_of(joint: np.ndarray) -> float:
    """Share of wrong labels."""
    return float(max(1 - joint.trace(), 0.0))


def matrix_of(joint: np.ndarray) -> np.ndarray:
    """P(given | true). A class that is the true one of no example is taken to be given rightly."""
    true = joint.sum(axis=0)
    return np.where(true > 0, joint / np.where(true > 0, true, 1), np.eye(len(joint)))


def find_issues(quality: np.ndarray, weights: np.ndarray, rate: float) -> np.ndarray:
    """Which labels are of lowest quality and hold about ``rate`` of the weight, (n_samples,) bool.

    Examples of equal quality are issues together or not at all, so the order of the rows does not matter.
    """
    order = np.argsort(quality)
    levels, first = np.unique(quality[order], return_index=True)
    up_to = np.append(0, np.add.reduceat(weights[order], first).cumsum())
    n_levels = np.abs(up_to - rate * up_to[-1]).argmin()
    return quality <= levels[n_levels - 1] if n_levels else np.zeros(len(quality), dtype=bool)


def temperature_of(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray, joint: np.ndarray) -> float:
    """By how much the logits behind out-of-sample probabilities are to be divided so that these are as sure as right.

    The temperature, at least 1, with which the given labels are most likely, where the noise is that of ``joint``.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2 (arXiv:1706.04599): the temperature.
    Patrini et al., CVPR 2017, section 4.2 (arXiv:1609.03683): the likelihood of noisy labels ("forward correction").
    """
    logits = np.log(pred_probs.clip(np.finfo(np.float32).tiny))
    given_by_true = matrix_of(joint)[codes]  # (n_samples, n_classes): P(this given label | true class)

    def loss(log_temperature: float) -> float:
        tempered = softmax(logits / np.exp(log_temperature), axis=1)
        likelihoods = (tempered * given_by_true).sum(axis=1)
        return -weights @ np.log(likelihoods.clip(np.finfo(np.float32).tiny))

    found = minimize_scalar(loss, bounds=(0, np.log(MAXIMUM_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
