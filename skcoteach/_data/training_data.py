"""What a training learns from, on its device: made once, never changed."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skcoteach._arrays import index_dtype
from skcoteach._data.inputs import Inputs
from skcoteach._data.sampling import windows_of_blocks
from skcoteach._data.validation import ValidatedData
from skcoteach._errors import warn_user

#: Numbers of X that are looked at to see what precision it needs.
NUMBERS_LOOKED_AT = 2**18
#: From which on the classes of windows of a Dataset that is stored in blocks differ too much: of files sorted by class,
#: accuracy was half a point lower at 0.04, and as good as with all rows shuffled at 0.01.
SORTED = 0.02


@dataclass(frozen=True)
class TrainingData:
    """The examples to learn from and what is known of them.

    Attributes
    ----------
    inputs : Inputs of length n_samples
    n_classes : int
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers, of the smallest type that holds them.
    sample_weights, full_weights : ndarray of shape (n_samples,), float64
        Without and with the weights of the classes.
    targets : Tensor of shape (n_samples,), of the type of the codes, on the device
        The given labels.
    weights : Tensor of shape (n_samples,), of the networks' dtype, on the device
        The weights with those of the classes; a single number where all are alike.
    drawn : Tensor of shape (n_drawn,), int32 where that is enough, else int64, on the CPU
        Indices of the examples that are trained on: those that have weight.
    drawn_targets : Tensor of shape (n_drawn,), of the type of the codes, on the CPU
        Their given labels.
    """

    inputs: Inputs
    n_classes: int
    codes: np.ndarray
    sample_weights: np.ndarray
    full_weights: np.ndarray
    targets: Tensor
    weights: Tensor
    drawn: Tensor
    drawn_targets: Tensor

    @classmethod
    def of(cls, data: ValidatedData, device: torch.device, dtype: torch.dtype, *, as_indices: bool) -> "TrainingData":
        """Validated data on the device.

        Raises
        ------
        ValueError
            If the weights cannot be held in ``dtype``.
        """
        n, are_alike = len(data.codes), not any(data.weights.strides)
        weights = torch.tensor(data.weights[:1] if are_alike else data.weights, dtype=dtype, device="cpu")
        everything = np.arange(n, dtype=index_dtype(n))
        drawn = everything if weights.all() else everything[weights.expand(n).numpy() != 0]
        if not len(drawn):
            raise ValueError(
                f"All weights are so small that they are zero in {dtype}; "
                "multiply them (sample_weight, class_weight) by some number."
            )
        if not torch.isfinite(weights.sum()):
            raise ValueError(
                f"The weights add up to more than {dtype} can hold; "
                "divide them (sample_weight, class_weight) by some number."
            )
        return cls(
            inputs=data.inputs.to(device, dtype, as_indices=as_indices),
            n_classes=len(data.classes),
            codes=data.codes,
            sample_weights=data.sample_weights,
            full_weights=data.weights,
            targets=torch.from_numpy(data.codes).to(device),
            weights=weights.to(device).expand(n),
            drawn=torch.from_numpy(drawn),
            drawn_targets=torch.from_numpy(data.codes if drawn is everything else data.codes[drawn]),
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.targets.device

    def part(self, wanted: Tensor) -> "TrainingData":
        """With only those examples to draw from that are ``wanted``, (n_samples,) bool on the CPU."""
        kept = wanted[self.drawn]
        return dataclasses.replace(self, drawn=self.drawn[kept], drawn_targets=self.drawn_targets[kept])

    def moved_to_device(self) -> "TrainingData":
        """With X itself on the device, if it is a GPU that has room for it."""
        return dataclasses.replace(self, inputs=self.inputs.moved_to_device())


def warn_of_lost_digits(data: TrainingData) -> None:
    """Warn of columns of a table whose numbers are too much alike, too large or too small for the precision."""
    for name, inputs in data.inputs.by_name.items():
        _warn_of_lost_digits(name, inputs, data.drawn)


def warn_of_sorted_blocks(data: TrainingData) -> None:
    """Warn where the rows of a Dataset are stored by class, so that windows of its blocks have other classes than all.

    How much the classes differ between windows is an intraclass correlation: 1 where every window is of a single class,
    0 where they differ as by chance. What windows there will be, torch's global generator draws.
    """
    if not data.inputs.has_blocks:
        return
    targets = data.drawn_targets.numpy()
    blocks, per_window = data.inputs.blocks(data.drawn)
    windows = windows_of_blocks(blocks, per_window, targets).astype(np.int64)
    n_windows, n_rows = int(windows.max()) + 1, len(windows)
    cells = np.bincount(windows * data.n_classes + targets, minlength=n_windows * data.n_classes)
    counts = cells.reshape(n_windows, -1)
    shares, of_windows = counts.sum(axis=0) / n_rows, counts.sum(axis=1)
    impurity = 1 - ((counts**2).sum(axis=1) / of_windows).sum() / n_rows
    by_chance = (1 - shares @ shares) * (n_rows - n_windows) / max(n_rows - 1, 1)
    if impurity < (1 - SORTED) * by_chance:
        warn_user(
            f"The rows of X are stored by class: the {per_window} blocks that are shuffled together have "
            f"{(counts > 0).sum(axis=1).mean():.1f} of {data.n_classes} classes on average, or very unequal shares of "
            "them, and so have mini-batches; training suffers. Store the rows in a random order once, or in smaller "
            "blocks, or have more of them held in memory (window_bytes of skcoteach.data.ParquetRows)."
        )


def _warn_of_lost_digits(name: str, inputs: Inputs, drawn: Tensor) -> None:
    some = max(min(NUMBERS_LOOKED_AT // max(inputs.form.size, 1), len(drawn)), 1)
    columns = inputs.columns_that_lose_digits(drawn[:: -(-len(drawn) // some)])
    if columns:
        listed = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
        warn_user(
            f"Column(s) {listed} of {name}: float32 does not hold the differences between the values (they are far "
            "from zero) or the values themselves (too large or too small). Scale X, with "
            'sklearn.preprocessing.StandardScaler say, or use precision="float64".'
        )
