"""How noisy the labels are, and which of them are wrong: statistics of given labels and probabilities.

The probabilities must be out-of-sample, of a model that has not seen the labels that they are compared with. How the
estimator gets them for its own training data is in ``crossfit``.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_array

from skcoteach._arrays import blocks, to_host
from skcoteach._noise_counting import fitted_or_counted_noise
from skcoteach._sklearn import check_sample_weight

#: So many parts of the range of qualities are counted, and one of them is sorted.
N_BINS = 2**16


class _RateAndMatrix(NamedTuple):
    noise_rate: float
    noise_matrix: np.ndarray


class NoiseEstimate(_RateAndMatrix):
    """What :func:`estimate_noise` returns: a named tuple of the first two.

    Attributes
    ----------
    noise_rate : float
        Share of wrong labels.
    noise_matrix : ndarray of shape (n_classes, n_classes), float64
        P(given | true): a row for each given class, a column for each true class; columns sum to one.
    noise_rate_std : float
        Standard error of the rate.
    """

    noise_rate_std: float

    def __new__(cls, noise_rate: float, noise_matrix: np.ndarray, noise_rate_std: float) -> "NoiseEstimate":
        estimate = super().__new__(cls, noise_rate, noise_matrix)
        estimate.noise_rate_std = noise_rate_std
        return estimate


def estimate_noise(labels: Any, pred_probs: Any, *, sample_weight: Any = None, classes: Any = None) -> NoiseEstimate:
    """Estimate the share of wrong labels, and which class is mistaken for which.

    The true class of an example is taken for a draw from ``softmax(log p / temperature)``, where ``p`` are its
    probabilities, and the given label for a draw from the column of the noise matrix of this class. Three explanations
    are compared by their likelihood, averaged over temperature and strength of the noise: no noise, symmetric noise
    (where some classes are rare, maybe among the others), and any noise matrix in which the right label is the most
    frequent one; the last pays for its parameters as in the Bayesian information criterion. So classes that overlap
    are not taken for noise, and where the labels cannot tell the two apart, the standard error is large.

    Probabilities of a model that has learnt the noise, too, may explain it away: those of a well calibrated one say 0.8
    where one label in five is wrong. Where labels are wrong as often among the most confident quarter of the
    predictions of each class as among the next, this cannot be overlap. Unless symmetric noise explains it, the wrong
    labels are then counted: the confident half of each predicted class is taken to be what the model says.

    The noise may depend on the class, but is taken to be independent of the example otherwise. Where hard examples are
    mislabelled more often than easy ones, the estimate is too low.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        Given labels.
    pred_probs : array-like of shape (n_samples, n_classes), floating
        Out-of-sample probabilities of any classifier, for example of
        ``cross_val_predict(..., method="predict_proba")``: a column for each class, in sorted order. The columns of a
        data frame that are named by the classes may come in any order.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight 2 counts as the example twice, weight 0 as its absence.
    classes : array-like of shape (n_classes,), default=None
        The classes of the columns, sorted. None: those that occur in ``labels``, or ``0 ... n_classes - 1`` if the
        labels are such integers.

    Returns
    -------
    NoiseEstimate
        Named tuple of ``noise_rate`` and ``noise_matrix``, with an attribute ``noise_rate_std``. With the shares of the
        true classes for which
        ``noise_matrix @ shares`` are those of the given ones, the noise matrix implies the noise rate.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, if rows of ``pred_probs`` are no probabilities, or if weights are negative
        or all zero.

    References
    ----------
    Patrini et al.: "Making deep neural networks robust to label noise", CVPR 2017, section 4.2 (arXiv:1609.03683): the
    likelihood of noisy labels ("forward correction"). Guo et al., "On calibration of modern neural networks", ICML
    2017, section 4.2 (arXiv:1706.04599): the temperature. Northcutt, Jiang, Chuang: "Confident learning: Estimating
    uncertainty in dataset labels", JAIR 70, 2021, section 3.1 (arXiv:1911.00068): counting, and its calibration.

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
    pred_probs = _in_order(pred_probs, classes, labels)
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
    fit = fitted_or_counted_noise(codes, pred_probs, weights)
    return NoiseEstimate(fit.rate, fit.matrix, fit.rate_std)


def _in_order(pred_probs: Any, classes: Any, labels: Any) -> Any:
    """A data frame whose columns are named by the classes, with its columns in the order of these."""
    if not hasattr(pred_probs, "columns"):
        return pred_probs
    wanted = np.unique(np.asarray(to_host(labels))) if classes is None else np.asarray(to_host(classes))
    names = list(pred_probs.columns)
    if len(names) == len(wanted) and set(names) == set(wanted.tolist()):
        return pred_probs[wanted.tolist()]
    return pred_probs


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


def find_issues(quality: np.ndarray, weights: np.ndarray, rate: float) -> np.ndarray:
    """Which labels are of lowest quality and hold about ``rate`` of the weight, (n_samples,) bool.

    Examples of equal quality are issues together or not at all, so the order of the rows does not matter.
    """
    lowest, highest = quality.min(), quality.max()
    width = highest - lowest or 1.0

    def bins(rows: slice) -> np.ndarray:
        return np.minimum((quality[rows] - lowest) / width * N_BINS, N_BINS - 1).astype(np.int32)

    of_bins = sum(np.bincount(bins(rows), weights[rows], N_BINS) for rows in blocks(len(quality)))
    up_to = np.append(0, np.cumsum(of_bins))
    number = max(int(np.searchsorted(up_to, rate * up_to[-1])) - 1, 0)  # of the bin within which it is reached
    here = np.concatenate([np.flatnonzero(bins(rows) == number) + rows.start for rows in blocks(len(quality))])
    order = here[np.argsort(quality[here])]
    levels, first = np.unique(quality[order], return_index=True)
    reached = up_to[number] + np.append(0, np.add.reduceat(weights[order], first).cumsum())
    n_levels = np.abs(reached - rate * up_to[-1]).argmin()
    if n_levels:
        return quality <= levels[n_levels - 1]
    return quality <= np.max(quality, where=(quality < levels[0]) & (weights > 0), initial=-np.inf)
