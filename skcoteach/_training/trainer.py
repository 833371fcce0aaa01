"""Co-teaching itself: two networks, their optimizers, one epoch at a time. Its whole state is one value.

The steps are in ``steps``, how many examples they forget and at what learning rate in ``config``. Nothing here knows
of scikit-learn. Within an epoch the device is never asked for a number; statistics are read back once, at its end.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from skcoteach._data.sampling import in_batches, stratified_order
from skcoteach._data.streaming import stream
from skcoteach._data.training_data import TrainingData
from skcoteach._training import optimizers
from skcoteach._training.averaging import WeightAverage
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import float32_products, keep_freed_memory, order_and_noise, random_state
from skcoteach._training.engines.choice import make_engine
from skcoteach._training.epoch_statistics import EpochStatistics, logit_scale, record
from skcoteach._training.label_statistics import LabelStatistics
from skcoteach._training.module_state import copied, load_state, state_of
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.steps import Steps

#: Examples are brought to the device in blocks of batches: as many as hold this many numbers, and no more than that
#: many.
NUMBERS_PER_BLOCK, BATCHES_PER_BLOCK = 2**20, 64


class Trainer:
    """Two networks that teach each other.

    Parameters
    ----------
    config : TrainingConfig
    data : TrainingData
    noise_estimate : NoiseEstimate
        With the config it gives the schedule.
    networks : tuple of two nn.Module
        Made from the config; trained in place. Between epochs they are in eval mode and hold no gradients.

    Attributes
    ----------
    history : list of dict
        An entry for each epoch that was run, as ``history_`` of :class:`skcoteach.CoTeachingClassifier`.
    label_statistics : LabelStatistics
        What was found out about each example since the warm-up.
    average : WeightAverage or None
        Of the networks, where ``average_decay`` is given.
    logit_scale : float
        Weighted mean over the last epoch's examples, and over both networks, of the standard deviation of the logits
        of an example. NaN before the first epoch.
    batch_size : int
        No more than there are examples.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        noise_estimate: NoiseEstimate,
        networks: tuple[nn.Module, nn.Module],
    ):
        self.config = config
        self.data = data
        self.noise_estimate = noise_estimate
        self.networks = networks
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
            largest_weight=data.largest_weight,
        )
        self.history: list[dict] = []
        self.logit_scale = math.nan
        self.label_statistics = LabelStatistics(data.codes, data.n_classes, data.weights)
        # how many networks (0, 1 or 2; parts are rounded) kept each example when it was last in a batch
        self._n_keepers = torch.full((len(data.inputs),), 2, device="cpu")
        self._engine.rest()
        keep_freed_memory(data.device)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def owns_memory(self) -> bool:
        """Whether the networks' weights lie as suits the engine (all in one, say, which pickles would take whole)."""
        return self._engine.owns_memory

    def run_epoch(self, forget_rate: float | None = None) -> None:
        """Train both networks for one epoch, at its position in the schedules; beyond their end the last values hold.

        Parameters
        ----------
        forget_rate : float, optional
            Instead of that of the schedule.

        Raises
        ------
        DivergedError
            If a network's loss became NaN or infinite.
        """
        start = time.perf_counter()
        epoch, data = self.epoch, self.data
        position = min(epoch, len(self.forget_rates) - 1)
        learning_rate = self._learning_rates[position]
        if forget_rate is None:
            forget_rate = float(self.forget_rates[position])
        self._engine.start()
        for optimizer in self._optimizers:
            optimizers.set_learning_rate(optimizer, learning_rate)

        statistics = EpochStatistics(data.weights, self.batch_size)
        with (
            random_state(data.device, order_and_noise(self.config.seed, epoch)),
            float32_products(data.device, self.config.precision),
        ):
            order = in_batches(self._order(), self.batch_size, self.config.num_iter_per_epoch)
            for indices, inputs in stream(data.inputs, order, self._block_size()):
                targets, weights = data.targets.index_select(0, indices), data.weights.index_select(0, indices)
                log_probabilities, losses, kept = self._steps.train(inputs, targets, weights, forget_rate)
                statistics.add(indices, log_probabilities, losses, kept, targets, weights)
        totals, kept = statistics.read_back()
        entry = record(totals, -(-len(order) // self.batch_size), epoch, learning_rate, forget_rate)

        self._engine.rest()
        self.logit_scale = logit_scale(totals)
        self._n_keepers = torch.where(kept < 0, self._n_keepers, (2 * kept).round().long())
        if epoch == self.config.last_of_warm_up:
            self.label_statistics.restart()
        self.label_statistics.add(statistics.kept, statistics.losses, statistics.predicted, statistics.seen)
        self.history.append(entry | {"duration": time.perf_counter() - start})

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
            "label_statistics": self.label_statistics.state_dict(),
            "logit_scale": self.logit_scale,
            "noise_estimate": self.noise_estimate.state_dict(),
        }

    def snapshot(self) -> dict[str, Any]:
        """A copy of the :meth:`state_dict`, which further epochs do not change."""
        state = self.state_dict()
        history = state.pop("history")  # its entries never change
        return copied(state) | {"history": history}

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
        self._n_keepers = state["n_keepers"].clone()
        self.label_statistics.load_state_dict(state["label_statistics"])
        self.logit_scale = state["logit_scale"]
        self.noise_estimate = NoiseEstimate.from_state(state["noise_estimate"])
        self.forget_rates = self.config.forget_rates(self.noise_estimate.forget_rate)
        self.history = list(state["history"])
        self._engine.rest()

    def _order(self) -> Tensor:
        """The epoch's order: every batch gets about its share of what was kept last and of each class.

        The budget of a batch is fixed, so where batches are drawn blindly, one that has few clean examples is filled up
        with wrong ones (of 128 examples of which half are clean, 3.5 % of what is kept even if the ranking is perfect),
        and these are learnt and have small losses ever after.
        """
        strata = self._n_keepers[self.data.drawn] * self.data.n_classes + self.data.drawn_targets
        return stratified_order(self.data.drawn, strata, self.batch_size)

    def _block_size(self) -> int:
        """Examples to bring to the device at a time: whole batches."""
        item_size = torch.Size(self.data.inputs.form.item_shape).numel()
        numbers = self.batch_size * max(item_size, 2 * self.data.n_classes)
        return min(max(NUMBERS_PER_BLOCK // numbers, 1), BATCHES_PER_BLOCK) * self.batch_size
