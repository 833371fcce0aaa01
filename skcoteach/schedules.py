"""What changes from epoch to epoch: the forget rate and the learning rate, as pure functions of the epoch.

Nothing here trains or touches an optimizer; ``training`` and ``coteaching`` do.
"""

import numpy as np


def default_num_gradual(epochs: int) -> int:
    """Length of the warm-up where none is given: 10 epochs, or all if these are less."""
    return min(10, epochs)


def default_decay_start(epochs: int, plan: int = 250) -> int:
    """First epoch of the learning rate's decay where none is given: epoch 80 of the documented plan, scaled.

    Parameters
    ----------
    epochs : int
        Number of epochs.
    plan : int, default=250
        Epochs of the plan in which the decay starts with epoch 80.
    """
    return epochs * 80 // plan


def forget_rate_schedule(epochs: int, forget_rate: float, num_gradual: int, exponent: float) -> np.ndarray:
    """Share of a batch that is not learnt from, for every epoch.

    Rises linearly from 0 to ``forget_rate ** exponent`` over the first ``num_gradual`` epochs, then stays at
    ``forget_rate``. With ``num_gradual`` of 1 the first epoch forgets nothing; with 0 there is no warm-up.

    Parameters
    ----------
    epochs : int
        Number of epochs.
    forget_rate : float in [0, 1)
        The final forget rate.
    num_gradual : int
        Length of the warm-up in epochs, at most ``epochs``.
    exponent : float
        Sets where the warm-up ends: at ``forget_rate ** exponent``.

    Returns
    -------
    ndarray of shape (epochs,), float64

    Raises
    ------
    ValueError
        If ``num_gradual`` is greater than ``epochs``.

    References
    ----------
    Han et al., NeurIPS 2018 (arXiv:1804.06872), section 3 and 4: R(T) = 1 - min(T / T_k * tau, tau), with T_k
    ``num_gradual`` and tau ``forget_rate``; the exponent is c in tau ** c.

    Examples
    --------
    >>> forget_rate_schedule(5, 0.4, num_gradual=3, exponent=1).tolist()
    [0.0, 0.2, 0.4, 0.4, 0.4]
    """
    if num_gradual > epochs:
        raise ValueError(
            f"num_gradual ({num_gradual}) is greater than epochs ({epochs}): the warm-up would not end within the "
            "training. Give at most as many num_gradual epochs as there are epochs."
        )
    schedule = np.ones(epochs) * forget_rate
    schedule[:num_gradual] = np.linspace(0, forget_rate**exponent, num_gradual)
    return schedule


def learning_rate_schedule(epochs: int, lr: float, epoch_decay_start: int) -> list[float]:
    """Learning rate for every epoch: held at ``lr``, then linear towards zero from ``epoch_decay_start``.

    Zero itself would be reached in epoch ``epochs``, which is not run.

    Parameters
    ----------
    epochs : int
        Number of epochs.
    lr : float
        Learning rate of the first epochs.
    epoch_decay_start : int
        First epoch of the decay, counted from 0. From ``epochs`` on: no decay.

    Returns
    -------
    list of float
        One learning rate an epoch.

    Examples
    --------
    >>> learning_rate_schedule(4, 0.1, epoch_decay_start=2)
    [0.1, 0.1, 0.1, 0.05]
    """
    return [
        lr if epoch < epoch_decay_start else float(epochs - epoch) / (epochs - epoch_decay_start) * lr
        for epoch in range(epochs)
    ]
