"""One training run: from an estimator's parameters and its data to the fitted attributes.

A run never touches the estimator that it was started for; ``classifier`` assigns what it returns. The epochs
themselves are in ``training``.
"""

import copy
import inspect
import math
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state, column_or_1d
from torch import Tensor, nn
from torch.optim import Optimizer

from skcoteach._sklearn import InvalidParameterError
from skcoteach.averaging import Name, WeightAverage, exchange
from skcoteach.chains import Chains, are_chains
from skcoteach.crossfit import cross_fit
from skcoteach.engines import Autograd, Engine, raised_by_torch
from skcoteach.examples import Examples, Labels, Unseen
from skcoteach.networks import logit_layers
from skcoteach.noise import MAXIMUM_TEMPERATURE, matrix_of, rate_of, temperature_of
from skcoteach.optimizers import OneTensorAdam, is_elementwise
from skcoteach.peers import check_networks, check_takes, computed_tensors, make_networks, reads_indices
from skcoteach.schedules import forget_rate_schedule, learning_rate_schedule
from skcoteach.training import CoTeaching, TrainingData, mean_probabilities, predict, random_state, standardize
from skcoteach.validation import check_form, check_weights, check_X, check_y, encode, to_host, to_namespace_of

#: With less sample weight in all or in a class, there are too few data to split.
MINIMUM_WEIGHT, MINIMUM_CLASS_WEIGHT = 500.0, 50.0
#: Of X, to see what precision it needs.
NUMBERS_LOOKED_AT = 2**18
#: Where the noise rate cannot be estimated.
FALLBACK_FORGET_RATE = 0.2

#: Those optimizers that can update all parameters at one go on any device that they know.
FUSED = (torch.optim.Adam, torch.optim.AdamW)

#: Of the networks' weights, by the name of the precision.
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


@dataclass
class FitState:
    """What a fitted estimator keeps for itself: the form of X, and what ``partial_fit`` goes on from.

    Its arrays live on the host, whatever the namespace of the public attributes is; tensors (of the optimizers, and the
    last weights where ``modules_`` hold averages) on the device of the networks.
    """

    classes: np.ndarray
    item_shape: tuple[int, ...]
    kind: str
    indices: bool
    seed: int
    optimizer: Callable
    optimizer_states: list[dict]
    shapes: list[list[tuple[int, ...]]]
    keepers: np.ndarray
    temperature: float
    last_weights: dict[Name, Tensor] | None
    n_averaged: int
    labels: Labels | None


class Run:
    """The state of a training between its epochs. Made by :meth:`start` or :meth:`resume`."""

    def __init__(self, estimator, X, y, sample_weight, classes, seed: int, *, reset: bool):
        self.seed = seed
        self.estimator = _with_python_numbers(estimator)  # a copy: validation writes on it
        self.X = X
        self.rows = check_X(self.estimator, X, reset=reset)
        y = check_y(self.estimator, y, len(self.rows))
        self.classes, self.codes = encode(y, classes)
        self.sample_weights = check_weights(sample_weight, None, self.classes, self.codes)
        self.host_weights = check_weights(sample_weight, estimator.class_weight, self.classes, self.codes)
        self.joint: np.ndarray | None = None
        self.temperature = 1.0
        self.unseen: Unseen | None = None
        self.unseen_temperature: float | None = None
        self.unseen_scale = math.nan

    @classmethod
    def start(cls, estimator, X, y, sample_weight, classes=None) -> "Run":
        """Fresh networks and optimizers for the data."""
        if classes is not None:
            classes = _sorted_classes(classes)
        run = cls(estimator, X, y, sample_weight, classes, _draw_seed(estimator.random_state), reset=True)
        device = _device(estimator.device, X, estimator.precision)
        dtype = DTYPES[estimator.precision]
        with random_state(device, run.seed, 0):
            networks = run._make_networks(device, dtype)
            run._place(device, dtype, indices=reads_indices(networks[0]))
            check_networks(networks, run.data)
        run._warn_of_lost_digits()
        run.rows.settle()
        standardize(networks, run.data)
        training = run._co_teaching(networks, run.seed)
        run._average(training)
        if estimator.forget_rate == "auto":
            _schedules(run.estimator, FALLBACK_FORGET_RATE)  # refuses what cannot be before the time is spent
            run._estimate_noise(device, dtype, networks)
        run._begin(training)
        return run

    def _warn_of_lost_digits(self) -> None:
        used = self.data.used
        some = max(min(NUMBERS_LOOKED_AT // max(self.rows.item_shape[0], 1), len(used)), 1)
        columns = self.rows.loses_digits(used[:: -(-len(used) // some)])
        if columns:
            listed = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
            warnings.warn(
                f"Column(s) {listed} of X: float32 does not hold the differences between the values (they are far from "
                "zero) or the values themselves (too large or too small). Scale X, with "
                'sklearn.preprocessing.StandardScaler say, or use precision="float64".',
                stacklevel=6,  # the caller of fit
            )

    def _make_networks(self, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
        networks = make_networks(
            self.estimator.module,
            self.estimator.module2,
            _prefixed(self.estimator, "module__"),
            _prefixed(self.estimator, "module2__"),
            item_shape=self.rows.item_shape,
            n_classes=len(self.classes),
        )
        for network in networks:
            network.to(device, dtype)
        return networks

    def _estimate_noise(self, device: torch.device, dtype: torch.dtype, networks: tuple) -> None:
        """Cross-fit more networks like these, where there are data enough to split."""
        used = self.data.used.numpy()
        counts = np.bincount(self.codes[used], self.sample_weights[used], len(self.classes))
        rarest = counts[counts > 0].min()
        if counts.sum() < MINIMUM_WEIGHT or rarest < MINIMUM_CLASS_WEIGHT or len(used) < 4:
            warnings.warn(
                f'forget_rate="auto": too few data to estimate the noise rate (total sample_weight {counts.sum():g}, '
                f"{rarest:g} in the rarest class; {MINIMUM_WEIGHT:g} and {MINIMUM_CLASS_WEIGHT:g} are needed, where an "
                f"example has weight 1). {FALLBACK_FORGET_RATE} is used, for the number of label issues, too; give "
                "forget_rate a number if you know better.",
                stacklevel=6,  # the caller of fit
            )
            return
        made = list(networks)

        def make(half: TrainingData, seed: int) -> CoTeaching:
            with random_state(device, seed, 0):
                networks = self._make_networks(device, dtype)
            if {id(each) for network in networks for each in network.parameters()} & {
                id(each) for network in made for each in network.parameters()
            }:
                raise ValueError(
                    "module gave a network that it had given before. Where forget_rate is estimated, six networks are "
                    "needed: make a new one at every call, or give forget_rate a number."
                )
            made.extend(networks)
            standardize(networks, half)
            return self._co_teaching(networks, seed)

        weights = np.zeros(len(self.rows))
        weights[used] = self.host_weights[used]
        self.joint, probabilities, self.unseen_scale = cross_fit(
            make,
            self.data,
            self.codes,
            weights,
            epochs=self.estimator.epochs,
            learning_rate=self.estimator.lr,
            seed=self.seed,
        )
        quality = np.nan_to_num(probabilities[np.arange(len(probabilities)), self.codes])
        self.unseen = Unseen(quality, probabilities.argmax(axis=1))
        if np.isfinite(probabilities[used]).all():
            self.unseen_temperature = temperature_of(self.codes[used], probabilities[used], weights[used], self.joint)

    @classmethod
    def resume(cls, estimator, X, y, sample_weight, classes=None) -> "Run":
        """Copies of the networks and optimizers of a fitted estimator."""
        state: FitState = estimator._state
        if classes is not None and not np.array_equal(_sorted_classes(classes), state.classes):
            raise ValueError(f"classes={classes!r} differs from the classes of the earlier call: {state.classes}.")
        run = cls(estimator, X, y, sample_weight, state.classes, state.seed, reset=False)
        check_form(run.rows, state, type(estimator).__name__)
        networks = copy.deepcopy(estimator.modules_)
        run.temperature = state.temperature
        _divide_logits(networks, 1 / run.temperature)
        parameter = next(networks[0].parameters())
        run._place(parameter.device, parameter.dtype, indices=state.indices)
        training = run._co_teaching(networks, run.seed, state.keepers)
        run._average(training, state.n_averaged)
        if state.last_weights is not None:
            exchange(networks, state.last_weights)
        if estimator.optimizer is state.optimizer and _shapes(training.optimizers) != state.shapes:
            warnings.warn(
                "The networks are trained in another way than by the last call (layers were frozen or given hooks, or "
                "compile or precision was changed): the optimizer starts anew.",
                stacklevel=5,  # the caller of partial_fit
            )
        elif estimator.optimizer is state.optimizer:
            for optimizer, optimizer_state in zip(training.optimizers, state.optimizer_states, strict=True):
                options = optimizer.state_dict()["param_groups"]  # those of now, set_params may have changed them
                optimizer.load_state_dict({"state": copy.deepcopy(optimizer_state["state"]), "param_groups": options})
        run.rows.settle()
        run._begin(training, estimator.history_)
        return run

    def _place(self, device: torch.device, dtype: torch.dtype, *, indices: bool) -> None:
        weights = torch.tensor(self.host_weights, dtype=dtype, device="cpu")
        used = np.flatnonzero(weights.numpy())
        if not len(used):
            raise ValueError(f"All weights are so small that they are zero in {dtype}; multiply them by some number.")
        if not torch.isfinite(weights.sum()):
            raise ValueError(f"The weights add up to more than {dtype} can hold; divide them by some number.")
        self.data = TrainingData(
            rows=self.rows.place(device, dtype, indices=indices),
            targets=torch.tensor(self.codes, dtype=torch.int64, device=device),
            weights=weights.to(device),
            used=torch.from_numpy(used),
            used_targets=torch.from_numpy(self.codes[used]).long(),
            n_classes=len(self.classes),
            largest_weight=float(weights.max()),
        )

    def _co_teaching(self, networks: tuple, seed: int, keepers=None) -> CoTeaching:
        parameters = self.estimator
        engine: Engine
        precision, compiled = parameters.precision, parameters.compile
        joint = is_elementwise(parameters.optimizer) and precision != "bf16" and not compiled
        if joint and are_chains(networks, self.rows.item_shape):
            engine = Chains(networks, precision=precision)
        else:
            engine = Autograd(networks, len(self.classes), precision=precision, compiled=compiled)
        if keepers is None or len(keepers) != len(self.rows):  # of other data; of as many other rows they do no harm
            keepers = np.full(len(self.rows), 2)
        return CoTeaching(
            networks,
            _make_optimizers(parameters, engine),
            engine=engine,
            batch_size=min(parameters.batch_size, len(self.rows)),
            num_iter_per_epoch=parameters.num_iter_per_epoch,
            class_floor=parameters.class_floor,
            augment=parameters.augment,
            seed=seed,
            keepers=torch.tensor(keepers, dtype=torch.int64, device="cpu"),
        )

    def _average(self, training: CoTeaching, n_updates: int = 0) -> None:
        if self.estimator.average_decay is not None:
            training.average = WeightAverage(training.networks, self.estimator.average_decay, n_updates)

    def _begin(self, training: CoTeaching, history: Sequence[dict] = ()) -> None:
        self.forget_rates, self.learning_rates, self.warm_up_end = _schedules(self.estimator, self.forget_rate)
        self.training = training
        self.history = list(history)
        self.examples = Examples(self.codes, len(self.classes), self.data.targets.device)

    @property
    def forget_rate(self) -> float:
        """The final forget rate."""
        if self.joint is not None:
            return rate_of(self.joint)
        given = self.estimator.forget_rate
        return FALLBACK_FORGET_RATE if given == "auto" else float(given)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self) -> None:
        """Train for one epoch and keep what is needed to undo a later, unfinished one."""
        position = min(self.epoch, len(self.forget_rates) - 1)
        record, kept, losses, predicted, seen = self.training.run_epoch(
            self.data, self.epoch, self.learning_rates[position], float(self.forget_rates[position])
        )
        self.training.save()
        if self.epoch == self.warm_up_end:
            self.examples.forget()
        self.examples.add(kept, losses, predicted, seen)
        self.history.append(record)

    def undo_unfinished_epoch(self) -> None:
        """Give networks and optimizers the state that they had at the end of the last finished epoch."""
        self.training.restore()

    def fitted(self, *, copy_networks: bool = False, per_example: bool = True) -> dict[str, Any]:
        """Fitted attributes as if the training had ended with the last finished epoch.

        With ``copy_networks`` they hold copies that later epochs do not change.
        """
        networks, states = self.training.networks, [each.state_dict() for each in self.training.optimizers]
        for network in networks:
            for layer, name, value in computed_tensors(network):
                vars(layer)[name] = value.detach()
        if copy_networks:
            networks, states = copy.deepcopy((networks, states))
        for network in networks:
            network.eval()
            for parameter in network.parameters():
                parameter.grad = None
                if isinstance(self.training.engine, Chains):
                    parameter.data = parameter.data.clone()  # each in memory of its own, to be stored by itself
        average = self.training.average
        last_weights, growth = None, 1.0
        if average is not None:
            before = self._logit_scale(networks)
            last_weights = exchange(networks, average.values)
            growth = self._logit_scale(networks) / before if before else 1.0
        labels = self._labels(networks) if per_example else None
        self._calibrate(growth)
        _divide_logits(networks, self.temperature)
        attributes: dict[str, Any] = {
            "classes_": self.classes if self.classes.dtype.kind in "OUS" else to_namespace_of(self.classes, self.X),
            "n_features_in_": self.estimator.n_features_in_,
            "modules_": tuple(networks),
            "forget_rate_": self.forget_rate,
            "forget_rate_schedule_": to_namespace_of(self.forget_rates, self.X),
            "n_iter_": self.epoch,
            "history_": list(self.history),
            "_state": FitState(
                self.classes,
                self.rows.item_shape,
                self.rows.kind,
                self.rows.indices,
                self.seed,
                self.estimator.optimizer,
                states,
                _shapes(self.training.optimizers),
                self.training.keepers.numpy().astype(np.uint8),
                self.temperature,
                last_weights,
                0 if average is None else average.n_updates,
                labels,
            ),
        }
        if hasattr(self.estimator, "feature_names_in_"):
            attributes["feature_names_in_"] = self.estimator.feature_names_in_
        if labels is not None:
            attributes["kept_frequency_"] = to_namespace_of(self.examples.kept_frequency(), self.X)
            attributes["label_quality_"] = to_namespace_of(labels.quality.copy(), self.X)
        if self.joint is not None:
            attributes["noise_rate_"] = self.forget_rate
            attributes["noise_matrix_"] = to_namespace_of(matrix_of(self.joint), self.X)
        return attributes

    def _logit_scale(self, networks: tuple) -> float:
        """How large the logits of networks in eval mode are on some of the data; 0 where nobody wants to know."""
        if self.unseen_temperature is None:
            return 0.0
        some = 10 * self.training.batch_size
        rows = self.data.used[:: max(len(self.data.used) // some, 1)]
        with random_state(self.data.targets.device, self.seed, self.epoch, 2):
            scales = predict(networks, self.data.rows, _deviations, rows, precision=self.estimator.precision)
        return float(scales.mean())

    def _calibrate(self, growth: float) -> None:
        """Pass the temperature of the cross-fit on to networks whose logits have grown larger than those had become.

        ``growth`` is how much larger they are with the averaged weights than with those trained last.
        """
        before, now = self.unseen_scale, self.training.logit_scale * growth
        if self.unseen_temperature is not None and 0 < before < math.inf and 0 < now < math.inf:
            self.temperature = min(max(self.unseen_temperature * now / before, 1.0), MAXIMUM_TEMPERATURE)

    def _labels(self, networks: tuple) -> Labels:
        rows = self.examples.never_seen()
        now = np.empty((0, len(self.classes)))
        if len(rows):
            with random_state(self.data.targets.device, self.seed, self.epoch, 1):
                numbers, precision = torch.from_numpy(rows), self.estimator.precision
                current = predict(networks, self.data.rows, mean_probabilities, numbers, precision=precision)
            now = current.cpu().numpy()
        return self.examples.labels(now, self.unseen, self.host_weights, self.forget_rate)


def _deviations(logits: Tensor) -> Tensor:
    """Standard deviation of each row of the logits, mean over the networks: (n, 1) of (2, n, n_classes)."""
    return logits.std(2, correction=0).mean(0)[:, None]


@torch.no_grad()
def _divide_logits(networks: Sequence[nn.Module], temperature: float) -> None:
    """Let networks that end in a linear layer be less sure."""
    if temperature != 1:
        for layer in logit_layers(networks):
            for parameter in layer.parameters():
                parameter.div_(temperature)


def _schedules(estimator, forget_rate: float) -> tuple[np.ndarray, list[float], int]:
    """Forget rate and learning rate of every epoch, and the epoch with which the warm-up ends."""
    epochs = estimator.epochs
    num_gradual = min(10, epochs) if estimator.num_gradual is None else estimator.num_gradual
    decay_start = epochs * 80 // 250 if estimator.epoch_decay_start is None else estimator.epoch_decay_start
    forget_rates = forget_rate_schedule(epochs, forget_rate, num_gradual, estimator.exponent)
    if forget_rates.max() >= 1:
        raise InvalidParameterError(
            f"exponent={estimator.exponent} makes the warm-up end at a forget rate of {forget_rate:g} ** exponent = 1, "
            "where nothing is left to learn from. Give a larger exponent."
        )
    return forget_rates, learning_rate_schedule(epochs, estimator.lr, decay_start), max(num_gradual - 1, 0)


def _device(device, X, precision: str) -> torch.device:
    """The device to train on.

    Raises
    ------
    InvalidParameterError
        If torch does not know the device, if it is not there, or if it lacks the precision.
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, Tensor) and X.device.type != "cpu":
            return X.device
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        lacks_precision = accelerator is not None and accelerator.type == "mps" and precision == "float64"
        return torch.device("cpu") if accelerator is None or lacks_precision else accelerator
    try:
        wanted = torch.device(device)
        if wanted.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, dtype=DTYPES[precision], device=wanted)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidParameterError(
            f"device={device!r} cannot be used with precision={precision!r}: {reason}"
        ) from error
    return wanted


def _sorted_classes(classes) -> np.ndarray:
    """The ``classes`` of ``partial_fit``.

    Raises
    ------
    ValueError
        If they are not one axis of labels without NaN.
    """
    classes = np.unique(column_or_1d(to_host(classes)))
    if classes.dtype.kind == "f" and np.isnan(classes).any():
        raise ValueError("classes contains NaN.")
    return classes


def _draw_seed(random_state) -> int:
    """A seed; None draws from the operating system, not from NumPy's global state."""
    if random_state is None:
        return secrets.randbits(31)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _with_python_numbers(estimator):
    """A shallow copy; parameters that are NumPy numbers (of a grid, say) neither overflow nor surprise torch there."""
    shallow = copy.copy(estimator)
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, np.generic) and "__" not in name:
            setattr(shallow, name, value.item())
    return shallow


def _prefixed(estimator, prefix: str) -> dict:
    given = estimator.get_params(deep=False).items()
    return {name.removeprefix(prefix): value for name, value in given if name.startswith(prefix)}


def _shapes(optimizers: Sequence[Optimizer]) -> list[list[tuple[int, ...]]]:
    """Of all parameters of each optimizer."""
    return [[tuple(p.shape) for group in each.param_groups for p in group["params"]] for each in optimizers]


def _make_optimizers(estimator, engine: Engine) -> list[Optimizer]:
    """One with a group for each network, or, where numbers are not treated one by one, one for each network."""
    if is_elementwise(estimator.optimizer):
        groups = [{"params": parameters} for parameters in engine.parameters]
        return [_make_optimizer(estimator, groups, one_tensor=isinstance(engine, Chains))]
    return [_make_optimizer(estimator, parameters) for parameters in engine.parameters]


def _make_optimizer(estimator, parameters: list, *, one_tensor: bool = False) -> Optimizer:
    given = _prefixed(estimator, "optimizer__")
    name = getattr(estimator.optimizer, "__name__", repr(estimator.optimizer))
    if "params" in given:
        raise InvalidParameterError("optimizer__params is not used: the optimizer gets the parameters of the networks.")
    if "lr" in given:
        raise InvalidParameterError(
            f"optimizer__lr={given['lr']!r} is not used: the learning rate is the parameter lr, which the schedule "
            "starts from. Give lr instead."
        )
    check_takes(estimator.optimizer, given, dict.fromkeys(given, "optimizer"), name)
    if estimator.optimizer in FUSED and not {"fused", "foreach", "capturable", "differentiable"} & given.keys():
        given["fused"] = True
    made_by = estimator.optimizer
    if made_by is torch.optim.Adam and given.get("fused") and one_tensor:
        made_by = OneTensorAdam
    try:
        optimizer = made_by(parameters, lr=estimator.lr, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        if not raised_by_torch(error) and isinstance(estimator.optimizer, type) and "'lr'" in str(error):
            raise InvalidParameterError(f"optimizer={name} takes no lr: {error}") from error
        if not raised_by_torch(error):
            raise
        raise InvalidParameterError(f"optimizer={name} refuses lr={estimator.lr} or {given}: {error}") from error
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer={name} made a {type(optimizer).__name__}; a torch.optim.Optimizer is expected.")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InvalidParameterError(
            f"optimizer={name} needs a closure that evaluates the loss again, which co-teaching cannot give. Use a "
            "first-order optimizer such as torch.optim.Adam or torch.optim.SGD."
        )
    return optimizer
