"""Co-teaching itself: pairs of networks, their optimizers, one epoch at a time. Its whole state is one value.

The steps are in ``steps``, how many examples they forget and at what learning rate in ``config``. Nothing here knows
of scikit-learn. Within an epoch the device is never asked for a number; statistics are read back once, at its end.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skcoteach._arrays import ROWS_AT_A_TIME
from skcoteach._batches import Batch
from skcoteach._data.sampling import in_batches, order_by_windows, stratified_order, windows_of_blocks
from skcoteach._data.streaming import stream
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation_set import ValidationSet
from skcoteach._training import optimizers
from skcoteach._training.averaging import WeightAverage
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import (
    float32_products,
    keep_freed_memory,
    noise_of_process,
    order_and_noise,
    predictions,
    random_state,
)
from skcoteach._training.distributed import check_alike_after_epoch
from skcoteach._training.engines.choice import make_engine
from skcoteach._training.epoch_statistics import UNSEEN, EpochStatistics, batches_of, in_steps, record
from skcoteach._training.label_statistics import LabelStatistics
from skcoteach._training.module_state import copied, load_state, state_of
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.selection import batch_budgets, class_budgets, class_floors, free_budgets
from skcoteach._training.steps import Steps
from skcoteach._training.validation_scores import validation_scores

#: Examples are brought to the device in blocks of batches: as many as hold this many numbers, and no more than that
#: many.
NUMBERS_PER_BLOCK, BATCHES_PER_BLOCK = 2**20, 64
#: Of each given class something is always learnt.
MAXIMUM_CLASS_RATE = 0.95


class Trainer:
    """Two networks that teach each other, or several such pairs on the same mini-batches.

    Parameters
    ----------
    config : TrainingConfig
    data : TrainingData
    noise_estimate : NoiseEstimate
        With the config it gives the schedule.
    networks : sequence of nn.Module
        Made from the config, the peers beside each other; trained in place. Between epochs they are in eval mode and
        hold no gradients.
    validation : ValidationSet, optional
        What they are tried on after every epoch.

    Attributes
    ----------
    history : list of dict
        An entry for each epoch that was run, as ``history_`` of :class:`skcoteach.CoTeachingClassifier`.
    label_statistics : LabelStatistics
        What was found out about each example since the warm-up.
    average : WeightAverage or None
        Of the networks, where ``average_decay`` is given.
    batch_size : int
        No more than there are examples.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        noise_estimate: NoiseEstimate,
        networks: Sequence[nn.Module],
        validation: ValidationSet | None = None,
    ):
        self.config = config
        self.data = data
        self.noise_estimate = noise_estimate
        self.networks = tuple(networks)
        self.forget_rates = config.forget_rates(noise_estimate.forget_rate)
        self._learning_rates = config.learning_rates()
        self.batch_size = min(config.batch_size, len(data.inputs))
        self._engine = make_engine(networks, config, data)
        self._optimizers = optimizers.make_optimizers(config, self._engine)
        self.average = None if config.average_decay is None else WeightAverage(networks, config.average_decay)
        self._steps = Steps(
            config,
            self._engine,
            self._optimizers,
            self.average,
            batch_size=self.batch_size,
            n_classes=data.n_classes,
        )
        self._validation = validation
        self._best: dict[str, Any] | None = None  # the state of the best epoch, where that is to be gone back to
        self.history: list[dict] = []
        self.label_statistics = LabelStatistics(data.codes, data.n_classes, data.weights)
        # what is known of each example: an epoch has other tensors in the place of these, and does not change them
        # of every network, that of the last epoch in which the example was in a batch; None before the first epoch
        self._losses: Tensor | None = None
        self._kept: Tensor | None = None  # as the statistics of the last epoch read it back
        # how many networks (0, 1 or 2; parts are rounded) kept each example when it was last in a batch
        self._n_keepers = torch.full((len(data.inputs),), 2, dtype=torch.uint8, device="cpu")
        self._engine.rest()
        keep_freed_memory(data.device)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def best_epoch(self) -> int | None:
        """The first of those with the highest accuracy on the validation set; None where that decides nothing."""
        if self._validation is None or not self.config.early_stopping or not self.history:
            return None
        return max(range(self.epoch), key=lambda epoch: self.history[epoch]["val_accuracy"])

    @property
    def has_stopped_improving(self) -> bool:
        """Whether the best epoch is so long ago that the training ends."""
        best = self.best_epoch
        return best is not None and self.epoch - 1 - best >= self.config.n_iter_no_change

    @property
    def owns_memory(self) -> bool:
        """Whether the networks' weights lie as suits the engine (all in one, say, which pickles would take whole)."""
        return self._engine.owns_memory

    def run_epoch(self, rates: Tensor | None = None) -> None:
        """Train the networks for one epoch, at its position in the schedules; beyond their end the last values hold.

        Parameters
        ----------
        rates : Tensor of shape (n_pairs, n_classes), floating, in [0, 1), on the CPU, optional
            What each pair forgets of each given class, instead of the schedule.

        Raises
        ------
        DivergedError
            If a network's loss became NaN or infinite.
        """
        start = time.perf_counter()
        epoch, data = self.epoch, self.data
        position = min(epoch, len(self.forget_rates) - 1)
        learning_rate = self._learning_rates[position]
        forget_rate = float(self.forget_rates[position] if rates is None else rates.mean())
        if rates is None:
            rates = self._rates(forget_rate)
        self._engine.start()
        for optimizer in self._optimizers:
            optimizers.set_learning_rate(optimizer, learning_rate)

        with (
            random_state(data.device, order_and_noise(self.config.seed, epoch)),
            float32_products(data.device, self.config.precision),
        ):
            order = in_batches(self._order(), self.batch_size, self.config.num_iter_per_epoch)
            statistics = EpochStatistics(data.weights, self.batch_size, len(self.networks), data.targets.dtype)
            with self._own_noise():
                for indices, (_, inputs), keeping in self._blocks(order, rates):
                    targets = data.targets.index_select(0, indices).long()
                    weights = data.weights.index_select(0, indices)
                    log_probabilities, losses, kept = self._steps.train(inputs, targets, weights, *keeping)
                    statistics.add(indices, log_probabilities, losses, kept, targets, weights)
        n_steps = -(-len(order) // self.batch_size)
        del order  # it needs much memory
        totals, kept = statistics.read_back(self.label_statistics.predicted)
        entry = record(totals, n_steps, epoch, learning_rate, forget_rate)

        self._engine.rest()
        if epoch == self.config.last_of_warm_up:
            self.label_statistics.restart()
        self.label_statistics.add(statistics.kept, statistics.losses, statistics.predicted, statistics.seen)
        if self._losses is not None:
            torch.where(statistics.seen, statistics.losses, self._losses, out=statistics.losses)
        self._losses = statistics.losses
        self._n_keepers = torch.where(kept == UNSEEN, self._n_keepers, kept.clamp(min=1) - 1)
        self._kept = kept
        entry |= self._scores()
        check_alike_after_epoch(self.config.processes, self.networks, epoch)
        self.history.append(entry | {"duration": time.perf_counter() - start})
        if self.best_epoch == epoch:
            state = self.snapshot()
            self._best = {name: state[name] for name in state.keys() - {"history", "best", "noise_estimate"}}

    def _blocks(self, order: Tensor, rates: Tensor) -> Iterator[tuple[Tensor, tuple[Tensor, Batch], tuple]]:
        """Of every block of batches: indices; those and the examples of this process's part; what is kept of all."""
        processes, size = self.config.processes, self._block_size()
        own_size = size // self.batch_size * processes.length_of_part(self.batch_size)
        return zip(
            map(Tensor.long, order.to(self.data.device).split(size)),
            stream(self.data.inputs, processes.part_of_order(order, self.batch_size), own_size),
            self._in_blocks(*self._keeping(order, rates)),
            strict=True,
        )

    def _own_noise(self) -> AbstractContextManager[None]:
        """Where there are several processes, dropout and augmentation of its own in each."""
        config = self.config
        if config.processes.size == 1:
            return nullcontext()
        return random_state(self.data.device, noise_of_process(config.seed, self.epoch, config.processes.rank))

    def _networks_that_predict(self) -> tuple[nn.Module, ...]:
        """The networks, or copies with the averaged weights, where there are averages."""
        if self.average is None:
            return self.networks
        networks = copy.deepcopy(self.networks)
        self.average.give_to(networks)
        return networks

    def return_to_best(self) -> None:
        """Have all but the history be as after the best epoch, where that is to be kept."""
        if self._best is not None:
            self.load_state_dict(self.state_dict() | self._best | {"best": None})

    def starved_classes(self) -> np.ndarray:
        """Numbers of the classes that were in batches of the last epoch, and of which nothing was kept."""
        if self._kept is None:
            return np.empty(0, dtype=int)
        codes, kept, n_classes = self.data.codes, self._kept.numpy(), self.data.n_classes
        seen = kept != UNSEEN
        n_seen, n_kept = (np.bincount(codes[some], minlength=n_classes) for some in (seen, seen & (kept > 0)))
        return np.flatnonzero((n_seen > 0) & (n_kept == 0))

    def state_dict(self) -> dict[str, Any]:
        """The whole state of the training: nested dicts, lists and tuples of tensors, numbers, strings and None.

        What the user's optimizer has put into its state passes unchanged. Like torch's, it aliases the training: copy
        it to keep it. Random numbers have no place in it, as each epoch seeds its own. What a user's ``augment``,
        Dataset or module keeps elsewhere than in parameters and buffers (a generator, a counter) is not in it.
        """
        return {
            "history": list(self.history),
            "networks": [state_of(network) for network in self.networks],
            "optimizers": [optimizers.state_of(optimizer) for optimizer in self._optimizers],
            "average": None if self.average is None else self.average.state_dict(),
            "n_keepers": self._n_keepers,
            "losses": self._losses,
            "kept": self._kept,
            "label_statistics": self.label_statistics.state_dict(),
            "noise_estimate": self.noise_estimate.state_dict(),
            "best": self._best,
        }

    def snapshot(self) -> dict[str, Any]:
        """The :meth:`state_dict`, with copies of what further epochs change."""
        state = self.state_dict()
        return state | copied({name: state[name] for name in ("networks", "optimizers", "average")})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict` of a training that was made from the same config, data and estimate.

        The state is copied; it may be loaded again.
        """
        for network, own in zip(self.networks, state["networks"], strict=True):
            load_state(network, own)
        for optimizer, own in zip(self._optimizers, state["optimizers"], strict=True):
            optimizers.load_state(optimizer, own)
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._n_keepers = state["n_keepers"].to(torch.uint8, copy=True)
        self._losses = None if state["losses"] is None else state["losses"].to(self.data.device, copy=True)
        self._kept = copied(state["kept"])
        if self._kept is not None and self._kept.is_floating_point():  # in a checkpoint of version 0.1.0
            self._kept = torch.where(self._kept < 0, UNSEEN, in_steps(self._kept))
        self.label_statistics.load_state_dict(state["label_statistics"])
        self.noise_estimate = NoiseEstimate.from_state(state["noise_estimate"])
        self.forget_rates = self.config.forget_rates(self.noise_estimate.forget_rate)
        self.history = list(state["history"])
        self._best = state["best"]
        self._engine.rest()

    def _scores(self) -> dict[str, float]:
        """On the validation set, as the networks predict now."""
        if self._validation is None:
            return {}
        with (
            random_state(self.data.device, predictions(self.config.seed, self.epoch + 1)),
            float32_products(self.data.device, self.config.precision),
        ):
            return validation_scores(
                self._networks_that_predict(),
                self._validation,
                self.noise_estimate.noise_matrix,
                precision=self.config.precision,
            )

    def _rates(self, forget_rate: float) -> Tensor:
        """What is forgotten of each given class, (1, n_classes), where it is so much in all."""
        of_classes = self.noise_estimate.class_forget_rates
        if of_classes is None or forget_rate == 0:
            return torch.full((1, self.data.n_classes), forget_rate, dtype=torch.float64, device="cpu")
        return (of_classes * (forget_rate / self.noise_estimate.forget_rate)).clamp(max=MAXIMUM_CLASS_RATE)[None]

    def _keeping(self, order: Tensor, rates: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What each network keeps of each example of the order in any case, of each batch beside, and of its classes.

        Nothing in any case in a first epoch, which knows of no losses; all, and so None, where nothing is forgotten.
        Whether batches have enough of their classes is asked on the CPU, not on the device.
        """
        floors = self.data.weights.new_zeros(()).expand(len(self.networks), len(order))
        if not rates.any():
            return floors, None, None
        shares = None
        if self._losses is not None and self.config.class_floor > 0:
            shares = (self.config.class_floor * (1 - rates)).repeat_interleave(2, 0)
        budgets, of_classes, rare = self._budgets(order, rates, shares)
        in_any_case = torch.zeros_like(budgets)
        if shares is not None and len(rare):
            of_rare = self._floors(order[rare], shares)
            floors = torch.zeros_like(floors).index_copy_(1, rare.to(floors.device), of_rare)
            in_any_case = batches_of(floors, self.batch_size).sum(-1)
        if of_classes is not None:
            in_any_case = in_any_case + of_classes.sum(-1)
        return floors, free_budgets(budgets, in_any_case), of_classes

    def _budgets(self, order: Tensor, rates: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """What is kept of each batch, and of its classes in any case; places in the order of examples of rare classes.

        In parts, as all at once would need much memory.
        """
        data, size = self.data, self.batch_size
        budgets, of_classes, rare = [], [], [torch.empty(0, dtype=torch.int64, device="cpu")]
        for number, some in enumerate(order.split(self._whole_batches(ROWS_AT_A_TIME))):
            indices = some.to(data.device)
            targets, weights = data.targets.index_select(0, indices).long(), data.weights.index_select(0, indices)
            budgets.append(batch_budgets(batches_of(targets, size), batches_of(weights, size), rates.to(weights)))
            if shares is not None:
                here = some.numpy()
                codes, own = torch.from_numpy(data.codes[here]).long(), torch.from_numpy(data.full_weights[here])
                some_of_classes, is_rare = class_budgets(batches_of(codes, size), batches_of(own, size), shares)
                of_classes.append(some_of_classes.to(weights.dtype))
                first = number * self._whole_batches(ROWS_AT_A_TIME)
                rare.append(is_rare.flatten()[: len(some)].nonzero()[:, 0] + first)
        has_some = any(
            [bool(each.any()) for each in of_classes]
        )  # no generator: Ctrl-C while one is thrown away is lost
        return (
            torch.cat(budgets, 1).repeat_interleave(2, 0),
            torch.cat(of_classes, 1).to(data.device) if has_some else None,
            torch.cat(rare),
        )

    def _floors(self, examples: Tensor, shares: Tensor) -> Tensor:
        """What each network keeps in any case of these examples, of which batches have little."""
        data, indices = self.data, examples.to(self.data.device)
        assert self._losses is not None
        return class_floors(
            self._losses.index_select(1, indices),
            data.targets.index_select(0, indices).long(),
            data.weights.index_select(0, indices),
            shares.to(data.weights),
        )

    def _in_blocks(
        self, floors: Tensor, free: Tensor | None, of_classes: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """The parts for each block of batches."""
        size = self._block_size()
        for start in range(0, floors.shape[1], size):
            batches = slice(start // self.batch_size, (start + size) // self.batch_size)
            own_free, own_classes = (None if each is None else each[:, batches] for each in (free, of_classes))
            yield floors[:, start : start + size], own_free, own_classes

    def _order(self) -> Tensor:
        """The epoch's order: every batch gets about its share of what was kept last and of each class.

        The budget of a batch is fixed, so where batches are drawn blindly, one that has few clean examples is filled up
        with wrong ones (of 128 examples of which half are clean, 3.5 % of what is kept even if the ranking is perfect),
        and these are learnt and have small losses ever after.

        Of a Dataset that is stored in blocks: of those that are read together.
        """
        data = self.data
        strata = self._n_keepers.index_select(0, data.drawn).to(torch.int16 if data.n_classes < 10_000 else torch.int32)
        strata.mul_(data.n_classes).add_(data.drawn_targets)
        if data.inputs.has_blocks:
            windows = windows_of_blocks(*data.inputs.blocks(data.drawn), strata.numpy())
            order = order_by_windows(data.drawn, strata, self.batch_size, windows)
            if self.config.processes.size == 1:
                return order
            # so that each process reads its part of the blocks
            return torch.cat([batch.sort().values for batch in order.split(self.batch_size)])
        return stratified_order(data.drawn, strata, self.batch_size)

    def _whole_batches(self, n: int) -> int:
        """So many examples, or a few more."""
        return -(-n // self.batch_size) * self.batch_size

    def _block_size(self) -> int:
        """Examples to bring to the device at a time: whole batches."""
        numbers = self.batch_size * max(self.data.inputs.form.size, 2 * self.data.n_classes)
        return min(max(NUMBERS_PER_BLOCK // numbers, 1), BATCHES_PER_BLOCK) * self.batch_size
