"""Complete settings for the data sets of the papers: that of the paper, and what is better today.

Both return an unfitted :class:`~skcoteach.CoTeachingClassifier`; change what you like with ``set_params``, but give the
number of epochs here: warm-up and learning rates go by it. The networks for CIFAR-10, and that of the paper, have ten
outputs; where there are more or fewer classes, set ``module__n_outputs``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from skcoteach._classifier import CoTeachingClassifier
from skcoteach.augmentation import RandomFlip, RandomShift
from skcoteach.networks import CifarCNN, SmallCNN
from skcoteach.schedules import default_decay_start, default_num_gradual

__all__ = ["DATASETS", "NEVER", "PARTS", "PaperAdam", "fast", "paper", "without"]


@dataclass(frozen=True)
class _Data:
    """What is settled by the data set alone: its channels, and how ``fast`` learns it."""

    n_channels: int
    module: type[nn.Module]
    epochs: int
    lr: float
    average_decay: float
    augment: tuple[nn.Module, ...]
    warm_up: float = 0.3  # part of the epochs
    longest_warm_up: int = 10
    more: dict[str, Any] = field(default_factory=dict)


#: More epochs than there are: the learning rate never falls.
NEVER = 10**6

#: With so few images as those of digits the networks soon know them by heart. Weight decay and a slow warm-up defer
#: that, and the average takes the place of a falling learning rate.
FEW_IMAGES = {
    "optimizer": torch.optim.AdamW,
    "optimizer__weight_decay": 0.5,
    "epoch_decay_start": NEVER,
}

DATASETS = {
    "digits": _Data(1, SmallCNN, 100, 1.2e-2, 0.99, (RandomShift(1),), 0.6, 60, FEW_IMAGES),
    "mnist": _Data(1, SmallCNN, 10, 1e-3, 0.995, (RandomShift(2),)),
    "cifar10": _Data(3, CifarCNN, 100, 1e-3, 0.999, (RandomFlip(), RandomShift(4))),
}

#: Parts of :func:`fast`, and the parameters that leave each out.
PARTS: dict[str, dict[str, Any]] = {
    "forgetting": {"forget_rate": 0.0},  # then both networks learn from all labels
    "augment": {"augment": None},
    "average": {"average_decay": None},
    "short-warm-up": {"num_gradual": None},  # as long as by default
    "slow-warm-up": {"num_gradual": None},  # as short as by default
    "decay": {"epoch_decay_start": NEVER},
    "weight-decay": {"optimizer__weight_decay": 0.0},
    "floor": {"class_floor": 0.0},
    "width": {"module__width": 8},  # half of it
}


def without(classifier: CoTeachingClassifier, part: str) -> CoTeachingClassifier:
    """Leave a part out of a recipe.

    Parameters
    ----------
    classifier : CoTeachingClassifier
        Made by a recipe; it is changed.
    part : str
        One of ``PARTS``.

    Returns
    -------
    CoTeachingClassifier
        The same.

    Raises
    ------
    ValueError
        If there is no such part, or the recipe does not have it.

    Examples
    --------
    >>> without(fast("mnist"), "augment").augment is None
    True
    """
    if part not in PARTS:
        raise ValueError(f"There is no part {part!r}, only {', '.join(PARTS)}.")
    before, left_out = classifier.get_params(deep=False), PARTS[part]
    default = default_num_gradual(classifier.epochs)
    warm_up = default if classifier.num_gradual is None else classifier.num_gradual
    absent = {
        "short-warm-up": warm_up >= default,
        "slow-warm-up": warm_up <= default,
        "width": classifier.module is not SmallCNN,
        "weight-decay": "optimizer__weight_decay" not in before,
    }
    if absent.get(part) or all(before.get(name) == value for name, value in left_out.items()):
        raise ValueError(f"The recipe for {classifier.epochs} epochs has no such part as {part!r}.")
    return classifier.set_params(**left_out)


def fast(
    dataset: str,
    *,
    forget_rate: float | str = "auto",
    epochs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | int | torch.device = "auto",
) -> CoTeachingClassifier:
    """What to use today: a short training with augmentation and averaged weights.

    What each part gains is in the README.

    Parameters
    ----------
    dataset : {"digits", "mnist", "cifar10"}
        Images of shape (n, n_channels, height, width), of 8×8, 28×28 and 32×32 pixels.
    forget_rate : float in [0, 1) or "auto", default="auto"
        As in :class:`~skcoteach.CoTeachingClassifier`.
    epochs : int, default=None
        None: 100 for digits and CIFAR-10, 10 for MNIST.
    random_state, device
        As in :class:`~skcoteach.CoTeachingClassifier`.

    Returns
    -------
    CoTeachingClassifier
        Unfitted.

    Raises
    ------
    ValueError
        If there is no recipe for the data set.

    Examples
    --------
    >>> fast("mnist", forget_rate=0.45, random_state=0).average_decay
    0.995
    """
    data = _known(dataset, DATASETS)
    epochs = data.epochs if epochs is None else epochs
    return CoTeachingClassifier(
        data.module,
        forget_rate=forget_rate,
        num_gradual=max(min(data.longest_warm_up, round(data.warm_up * epochs)), 1),
        epochs=epochs,
        lr=data.lr,
        augment=nn.Sequential(*data.augment),
        average_decay=data.average_decay,
        device=device,
        random_state=random_state,
        **_made(data),
        **data.more,
    )


class PaperAdam(torch.optim.Adam):
    """Adam whose first beta falls from 0.9 to 0.1 when the learning rate starts to decay, as in the paper's code.

    There it falls in the first epoch of the decay, in which the learning rate is still the initial one; here an epoch
    later, as an optimizer is told nothing but the rate.
    """

    def __init__(self, params: Any, lr: float = 1e-3):
        super().__init__(params, lr=lr)
        self._initial_lr = lr

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once."""
        for group in self.param_groups:
            group["betas"] = (0.9 if group["lr"] >= self._initial_lr else 0.1, 0.999)
        return super().step(closure)


def paper(
    dataset: str,
    *,
    forget_rate: float | str = "auto",
    epochs: int = 200,
    random_state: int | np.random.RandomState | None = None,
    device: str | int | torch.device = "auto",
) -> CoTeachingClassifier:
    """The experiment of Han et al. (2018): the nine-layer network, Adam, batches of 128, the documented schedule.

    Batches are ranked as a whole (``class_floor=0``) and nothing is augmented or averaged. What stays of this package:
    batches that get their share of each class, dropout that is off when predicting, and the plain mean over what is
    kept as the objective. (cleanlab's documented loop, unlike the paper's code, keeps the first beta of Adam.)

    Parameters
    ----------
    dataset : {"mnist", "cifar10"}
    epochs : int, default=200
        The learning rate falls from epoch 80 on, or, of less than 200, from the same part of them. The example of
        confident learning takes 250.
    forget_rate, random_state, device
        As in :func:`fast`.

    Returns
    -------
    CoTeachingClassifier
        Unfitted.

    Raises
    ------
    ValueError
        If there is no recipe for the data set; the network takes no images as small as the digits of scikit-learn.

    Examples
    --------
    >>> paper("cifar10", forget_rate=0.2).epoch_decay_start
    80
    """
    data = _known(dataset, {name: each for name, each in DATASETS.items() if name != "digits"})
    return CoTeachingClassifier(
        CifarCNN,
        forget_rate=forget_rate,
        num_gradual=default_num_gradual(epochs),
        class_floor=0.0,
        epochs=epochs,
        optimizer=PaperAdam,
        epoch_decay_start=min(80, default_decay_start(epochs, plan=200)),
        device=device,
        random_state=random_state,
        module__input_channel=data.n_channels,
    )


def _made(data: _Data) -> dict[str, Any]:
    """What the estimator does not tell the network itself."""
    return {"module__input_channel": data.n_channels} if data.module is CifarCNN else {}


def _known(dataset: str, known: dict[str, _Data]) -> _Data:
    if dataset not in known:
        raise ValueError(f"There is no such recipe for {dataset!r}, only for {', '.join(known)}.")
    return known[dataset]
