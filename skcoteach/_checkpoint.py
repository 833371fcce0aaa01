"""A fit that goes on where it was killed: its state in a file, under a name that says all that the fit depends on.

What the state is, the trainer says. How values are digested is in ``_digest``, how files are written in
``_state_file``.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from skcoteach import _state_file
from skcoteach._data.inputs import CPU, Inputs, item_of
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation import LabelledInputs, ValidatedData
from skcoteach._data.validation_set import ValidationSet
from skcoteach._digest import Digest, NoDigestError
from skcoteach._errors import warn_user
from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import first_look, random_state
from skcoteach._training.module_state import copy_of, state_of
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer
from skcoteach._version import __version__

#: An epoch is written if it ends so long after the last one that was.
SECONDS_BETWEEN_WRITES = 10.0
#: Parameters that do not change what comes out.
WITHOUT_EFFECT = {"checkpoint", "device", "distributed", "verbose"}
#: Items of a Dataset that are looked at.
ITEMS_LOOKED_AT = 1000
#: Files that were never finished are of processes that were killed, once they are so old, in seconds.
SURELY_DEAD = 3600


class Checkpoint:
    """The file of a fit, or none.

    Parameters
    ----------
    folder : str, path or None
        Made, if it is not there. None: nothing is written.
    name : str
        Of the fit.

    Attributes
    ----------
    is_finished : bool
        Whether the fit that was found had come to its end.

    Raises
    ------
    InvalidParameterError
        If nothing can be written there.
    """

    def __init__(self, folder: str | os.PathLike | None, name: str = ""):
        self.is_finished = False
        self._last_write = time.monotonic()
        self._has_failed = False
        self._is_good = False  # what is in the file
        self._file = None if folder is None else Path(folder) / f"{name}.checkpoint"
        self._kind = f"checkpoint-{name}"
        if self._file is not None:
            _make_folder(self._file.parent)

    @classmethod
    def of_fit(
        cls, estimator: Any, given: ValidatedData, beside: LabelledInputs | None, networks: Sequence[nn.Module]
    ) -> "Checkpoint":
        """That of a fit of an estimator to data, watched by a validation set, which would begin with these networks.

        Raises
        ------
        InvalidParameterError
            If no later fit could find its file, or go on from it.
        """
        if estimator.checkpoint is None:
            return cls(None)
        if not os.fspath(estimator.checkpoint):
            raise InvalidParameterError('checkpoint="" names no folder.')
        if not isinstance(estimator.random_state, Integral):
            raise InvalidParameterError(
                f"checkpoint={os.fspath(estimator.checkpoint)!r} needs an integer random_state, so that the same fit "
                f"finds its file again; got random_state={estimator.random_state!r}."
            )
        for number, network in enumerate(networks, 1):
            key = _state_file.not_plain(state_of(network), f"the state of network {number}")
            if key is not None:
                raise InvalidParameterError(
                    f"checkpoint: {key} cannot be written to a file that is safe to read. Parameters and buffers have "
                    "to be plain tensors."
                )
        return cls(estimator.checkpoint, _name(estimator, given, beside))

    def resumed(
        self,
        config: TrainingConfig,
        data: TrainingData,
        networks: Sequence[nn.Module],
        validation: ValidationSet | None = None,
    ) -> Trainer | None:
        """A trainer that goes on where the fit was killed, with copies of the networks; None if there is no file."""
        if self._file is None:
            return None
        for file in (self._file, self._previous):
            try:
                saved = _state_file.read(file, self._kind)
                copies = [copy_of(each) for each in networks]
                trainer = Trainer(config, data, NoiseEstimate(0.0), copies, validation)
                trainer.load_state_dict(saved["training"])
                self.is_finished = bool(saved["is_stopped"]) or trainer.epoch >= config.epochs
                self._is_good = file == self._file
            except FileNotFoundError:
                continue
            except Exception as error:  # whatever is in there
                warn_user(f"checkpoint: {file} is not used, and will be overwritten: {error}.")
                continue
            return trainer
        return None

    def describe(self, trainer: Trainer) -> str:
        """In a line, what was found."""
        done = f"{trainer.epoch} of {trainer.config.epochs} epochs"
        return f"{'taken from' if self.is_finished else 'goes on from'} {self._file} ({done})"

    def write_if_due(self, trainer: Trainer) -> None:
        """Write the state of a trainer, if the last time is long ago."""
        if self._file is not None and time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self.write(trainer)

    def write(self, trainer: Trainer, *, at_end: bool = False) -> None:
        """Write the state of a trainer. Where that fails, the training goes on, and a warning says so once."""
        if self._file is None or self.is_finished:
            return
        training = trainer.snapshot()  # a view of all weights in one would be written as a whole for each of them
        unfit = _state_file.not_plain(training, "the state of the training")
        try:
            if unfit is not None:
                raise _state_file.UnusableFileError(f"{unfit} cannot be written to a file that is safe to read")
            _state_file.write(
                self._file,
                self._kind,
                {"training": training, "is_stopped": at_end},
                previous=self._previous if self._is_good else None,
            )
            self._is_good = True
            if at_end:
                self._tidy()
        except (OSError, RuntimeError, _state_file.UnusableFileError) as error:
            if not self._has_failed:
                warn_user(f"checkpoint: {self._file} cannot be written: {error}. The training goes on without it.")
            self._has_failed = True
        self._last_write = time.monotonic()

    @property
    def _previous(self) -> Path:
        assert self._file is not None
        return self._file.with_suffix(".previous")

    def _tidy(self) -> None:
        """Remove what a finished fit does not need."""
        assert self._file is not None
        with suppress(OSError):
            self._previous.unlink()
        for unfinished in self._file.parent.glob(f".{self._file.name}.*.unfinished"):
            with suppress(OSError):  # another process has just finished it
                if time.time() - unfinished.stat().st_mtime > SURELY_DEAD:
                    unfinished.unlink()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        raise InvalidParameterError(f"checkpoint={str(folder)!r} cannot be made: {error}") from error
    if not writable:
        raise InvalidParameterError(f"checkpoint={str(folder)!r} is a folder that must not be written to.")


def _name(estimator: Any, given: ValidatedData, beside: LabelledInputs | None) -> str:
    """A digest of all that a fit depends on, but for the device and the number of threads."""
    digest = Digest()
    digest.add((_state_file.FORMAT, __version__, torch.__version__), "versions")
    parameters = estimator.get_params(deep=False)
    try:
        digest.add(type(estimator), type(estimator).__name__)
        for parameter in sorted(parameters.keys() - WITHOUT_EFFECT):
            digest.add(parameter, parameter)
            digest.add(parameters[parameter], parameter)
        for part in (given.classes, given.codes, given.sample_weights):
            digest.add(part, "y")
        for part in _parts_of(given.inputs):
            digest.add(part, "X")
        if beside is not None:
            for part in (beside.codes, beside.weights, *_parts_of(beside.inputs)):
                digest.add(part, "X_val")
    except NoDigestError as error:
        raise InvalidParameterError(
            f"checkpoint: {error}, of which no digest can be made, so that no later fit could find its file. Give "
            "something that is made of numbers, strings, arrays, tensors, functions and objects that hold these."
        ) from error
    return digest.hexdigest()


def _parts_of(inputs: Inputs) -> Iterator[Any]:
    X = inputs.X
    if isinstance(X, dict):
        for key in sorted(X):
            yield key
            yield X[key]
        return
    if isinstance(X, (np.ndarray, Tensor)) or sparse.issparse(X):
        yield X
        return
    if type(X) is TensorDataset:
        yield X.tensors[0]
        return
    yield len(inputs)
    numbers = np.arange(len(inputs))
    if inputs.is_dataset and len(inputs) > ITEMS_LOOKED_AT:
        numbers = np.linspace(0, len(inputs) - 1, ITEMS_LOOKED_AT).astype(int)
    with random_state(CPU, first_look()):
        for number in numbers.tolist():
            yield item_of(X, number)
