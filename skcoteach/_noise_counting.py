"""Wrong labels counted, where the model that is to tell them has learnt the noise, too, and explains it away.

Counting, unlike the likelihood in ``_noise_likelihood``, takes classes that overlap for noise; so it is asked only
where they cannot be the reason.
"""

import dataclasses

import numpy as np

from skcoteach._noise_likelihood import NoiseFit, fit_noise

#: Wrong labels are as frequent among the most confident quarter of the predictions as in the quarter after it, if
#: they are at least this many times as frequent, but for a standard error (of a fifth at most).
FLAT = 0.9


def fitted_or_counted_noise(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> NoiseFit:
    """As :func:`fit_noise`, but wrong labels are counted where classes that overlap cannot be the reason for them.

    That is where they are as frequent among the predictions that are the most confident, unless symmetric noise
    explains it: these probabilities are of a model that has learnt the noise, too, and explain it away.
    """
    fit = fit_noise(codes, pred_probs, weights)
    if fit.is_symmetric or not is_flat(codes, pred_probs, weights):
        return fit
    joint = confident_joint(codes, pred_probs, weights)
    rate = float(max(1 - joint.trace(), 0.0))
    if rate <= fit.rate:
        return fit
    std = float((rate * (1 - rate) / (weights.sum() / 2)) ** 0.5)
    return dataclasses.replace(fit, rate=rate, rate_std=std, matrix=_matrix_of(joint), joint=joint)


def counted_rate(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> float:
    """Share of wrong labels, counted; 0 if classes that overlap can be the reason for them."""
    if not is_flat(codes, pred_probs, weights):
        return 0.0
    return float(max(1 - confident_joint(codes, pred_probs, weights).trace(), 0.0))


def confident_joint(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(given, true) if of each predicted class the more confident half is what the prediction says.

    Like the confident joint of confident learning, the counts are calibrated so that the given classes are as frequent
    as they are. Where classes overlap, or are not learnt yet, this is too much noise.
    """
    n_classes = pred_probs.shape[1]
    predicted, confidence = pred_probs.argmax(axis=1), pred_probs.max(axis=1)
    joint = np.zeros((n_classes, n_classes))
    for k in range(n_classes):
        rows = np.flatnonzero((predicted == k) & (weights > 0))
        if len(rows):
            confident = rows[confidence[rows] >= _upper_half(confidence[rows], weights[rows])]
            counts = np.bincount(codes[confident], weights[confident], n_classes)
            joint[:, k] = counts / counts.sum() * weights[rows].sum()
    given = np.bincount(codes, weights, n_classes) / weights.sum()
    unexplained = joint.sum(axis=1) == 0  # given classes that no confident example has: taken to be right
    joint[unexplained, unexplained] = 1
    return joint / joint.sum(axis=1, keepdims=True) * given[:, None]


def _upper_half(values: np.ndarray, weights: np.ndarray) -> float:
    """The largest of the values that at least half of the weight reaches."""
    order = np.argsort(-values)
    reached = weights[order].cumsum()
    return values[order[np.searchsorted(reached, reached[-1] / 2 * (1 - 1e-12))]]


def is_flat(codes: np.ndarray, pred_probs: np.ndarray, weights: np.ndarray) -> bool:
    """Whether wrong labels do not become rarer with the confidence of the prediction, and that can be told.

    Where they do, classes overlap, or it depends on the example whether it is mislabelled.
    """
    predicted, confidence = pred_probs.argmax(axis=1), pred_probs.max(axis=1)
    wrong, amount = np.zeros(2), np.zeros(2)
    for k in np.unique(predicted[weights > 0]):
        rows = np.flatnonzero((predicted == k) & (weights > 0))
        levels, level = np.unique(-confidence[rows], return_inverse=True)  # equal confidences share what is wrong
        of_level = np.bincount(level, weights[rows])
        wrong_of_level = np.bincount(level, weights[rows] * (codes[rows] != k), len(levels))
        up_to = of_level.cumsum()
        for quarter in range(2):
            start, end = quarter / 4 * up_to[-1], (quarter + 1) / 4 * up_to[-1]
            own = (np.minimum(up_to, end) - np.maximum(up_to - of_level, start)).clip(0)
            wrong[quarter] += own @ (wrong_of_level / of_level)
            amount[quarter] += own.sum()
    rates = wrong / amount
    error = np.sqrt((rates * (1 - rates) / amount).sum())
    return bool(rates[0] >= FLAT * rates[1] - error and error <= rates[1] / 5 and rates[1] > 0)


def _matrix_of(joint: np.ndarray) -> np.ndarray:
    """P(given | true). A class that is the true one of no example is taken to be given rightly."""
    true = joint.sum(axis=0)
    return np.where(true > 0, joint / np.where(true > 0, true, 1), np.eye(len(joint)))
