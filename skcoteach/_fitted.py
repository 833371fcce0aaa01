"""From a training to the fitted attributes of the estimator, and back to a training that goes on. A query: it changes
nothing in the trainer.
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from skcoteach._arrays import to_namespace_of
from skcoteach._data.inputs import InputForm
from skcoteach._data.validation import ValidatedData
from skcoteach._errors import warn_user
from skcoteach._noise_likelihood import drawn
from skcoteach._training.device import calibration, predictions, random_state
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.label_statistics import Labels
from skcoteach._training.module_state import copied
from skcoteach._training.trainer import Trainer

#: Those that hold something of every training example.
OF_EXAMPLES = ("label_quality_", "kept_frequency_", "cross_fit_probabilities_")
#: Logits are never divided by less or more, and so many examples say by how much.
MINIMUM_TEMPERATURE, MAXIMUM_TEMPERATURE, CALIBRATION_EXAMPLES = 0.2, 20.0, 4096

#: All attributes that a fit may set; what else ends with an underscore is a subclass's own.
FITTED_NAMES = frozenset({
    "_state", "best_epoch_", "class_forget_rates_", "classes_", "cross_fit_probabilities_", "feature_names_in_",
    "forget_rate_", "forget_rate_schedule_", "history_", "kept_frequency_", "label_quality_", "modules_",
    "n_features_in_", "n_iter_", "noise_matrix_", "noise_rate_", "noise_rate_std_", "temperature_",
})  # fmt: skip

Networks = tuple[nn.Module, ...]


@dataclass(frozen=True)
class FitState:
    """What a fitted estimator keeps for itself.

    Its arrays live on the host, whatever the namespace of the public attributes is; tensors on the device of the
    networks.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    form : InputForm
        Of the X of ``fit``.
    seed : int
    optimizer : callable
        Made what ``training`` holds the states of.
    training : dict
        The parts of :meth:`Trainer.state_dict` that ``partial_fit`` goes on from and that are in no public attribute.
    labels : Labels or None
        What was found out about each example by ``fit``, but for the quality, which is a public attribute.
    index : pandas.Index or None
        Of the examples.
    """

    classes: np.ndarray
    form: InputForm
    seed: int
    optimizer: Callable
    training: dict[str, Any]
    labels: Labels | None
    index: Any = None

    def without_examples(self) -> "FitState":
        """Without what is kept of each of them, their given labels among it."""
        nothing = torch.empty(0, dtype=torch.uint8, device="cpu")
        return dataclasses.replace(self, training=self.training | {"n_keepers": nothing}, labels=None, index=None)


def fitted_attributes(
    trainer: Trainer,
    data: ValidatedData,
    *,
    temperature: float | None = None,
    per_example: bool = True,
    copies: bool = False,
) -> dict[str, Any]:
    """Fitted attributes as if the training had ended with the last epoch.

    Parameters
    ----------
    trainer : Trainer
        At least one epoch old. Its networks become those of the estimator, unless their weights lie as suits it alone.
    data : ValidatedData
        What it is trained on, as it was handed over.
    temperature : float, optional
        That of an earlier fit. None: found from the noise estimate.
    per_example : bool
        Whether there are attributes of single examples.
    copies : bool
        Whether later epochs must not change what is returned.
    """
    networks = _networks_that_predict(trainer, copies=copies)
    labels = _labels(trainer, networks) if per_example else None
    attributes: dict[str, Any] = {
        "classes_": data.classes if data.classes.dtype.kind in "OUS" else to_namespace_of(data.classes, data.X),
        **data.columns,
        "modules_": networks,
        "temperature_": _temperature(trainer, networks) if temperature is None else temperature,
        "forget_rate_": trainer.noise_estimate.forget_rate,
        "forget_rate_schedule_": to_namespace_of(trainer.forget_rates.copy(), data.X),
        "n_iter_": trainer.epoch,
        "history_": [dict(entry) for entry in trainer.history],
        "_state": FitState(
            data.classes,
            trainer.data.inputs.form,
            trainer.config.seed,
            trainer.config.optimizer,
            _what_goes_on(trainer, copies=copies),
            None if labels is None else dataclasses.replace(labels, quality=np.empty(0)),
            data.index if per_example else None,
        ),
    }
    if labels is not None:
        attributes["kept_frequency_"] = to_namespace_of(trainer.label_statistics.kept_frequency(), data.X)
        attributes["label_quality_"] = to_namespace_of(labels.quality, data.X)
    if trainer.best_epoch is not None:
        attributes["best_epoch_"] = trainer.best_epoch
    estimate = trainer.noise_estimate
    if estimate.class_forget_rates is not None:
        attributes["class_forget_rates_"] = to_namespace_of(estimate.class_forget_rates.numpy().copy(), data.X)
    if estimate.probabilities is not None and per_example:
        exact = estimate.probabilities.double().numpy()
        attributes["cross_fit_probabilities_"] = to_namespace_of(exact / exact.sum(axis=1, keepdims=True), data.X)
    if estimate.noise_matrix is not None:
        attributes["noise_rate_"] = estimate.noise_rate
        attributes["noise_rate_std_"] = estimate.noise_rate_std
        attributes["noise_matrix_"] = to_namespace_of(estimate.noise_matrix.numpy().copy(), data.X)
    return attributes


def go_on(trainer: Trainer, state: FitState, history: list[dict]) -> None:
    """Have a fresh trainer, made from copies of the fitted networks, go on where the earlier one was.

    Where the optimizer is another one, or has to train other tensors, it starts anew.
    """
    fresh, earlier = trainer.state_dict(), state.training
    goes_on = {"history": history, "networks": earlier.get("networks", fresh["networks"])}
    if trainer.average is not None and "n_averaged" in earlier:  # the modules are the averages
        goes_on["average"] = fresh["average"] | {"n_updates": earlier["n_averaged"]}
    keepers = earlier["n_keepers"]
    if len(keepers) == len(fresh["n_keepers"]):  # of other data; of as many other examples they do no harm
        goes_on["n_keepers"] = keepers
    if trainer.config.optimizer is state.optimizer and "optimizers" in earlier:  # not in one that was loaded
        shapes = [[own["shapes"] for own in some] for some in (earlier["optimizers"], fresh["optimizers"])]
        if shapes[0] == shapes[1] and not _needs_more_state(earlier["optimizers"], fresh["optimizers"]):
            goes_on["optimizers"] = [  # with the options of now, set_params may have changed them
                own | {"state": before["state"]}
                for own, before in zip(fresh["optimizers"], earlier["optimizers"], strict=True)
            ]
        else:
            warn_user(
                "The networks are trained in another way than by the last call (layers were frozen or given hooks, or "
                "compile or precision was changed, or an option of the optimizer): the optimizer starts anew."
            )
    trainer.load_state_dict(fresh | goes_on)


def _needs_more_state(earlier: list[dict], fresh: list[dict]) -> bool:
    """Whether an option was switched on for which torch's optimizers keep what they have not kept before."""
    pairs = zip(earlier, fresh, strict=True)
    groups = [each for before, now in pairs for each in zip(before["param_groups"], now["param_groups"])]
    return any(
        now.get(option) and not before.get(option)
        for before, now in groups
        for option in ("amsgrad", "centered", *(["momentum"] if "centered" in now else []))  # SGD begins by itself
    )


def _what_goes_on(trainer: Trainer, *, copies: bool) -> dict[str, Any]:
    state = trainer.state_dict()
    kept: dict[str, Any] = {"optimizers": state["optimizers"]}
    if copies:
        kept = copied(kept)
    kept["n_keepers"] = state["n_keepers"]
    if trainer.average is not None:
        kept |= {"networks": copied(state["networks"]), "n_averaged": state["average"]["n_updates"]}
    return kept


def _networks_that_predict(trainer: Trainer, *, copies: bool) -> Networks:
    """Those with averaged weights, where there are averages."""
    if trainer.average is None and not copies and not trainer.owns_memory:
        return trainer.networks
    networks = copy.deepcopy(trainer.networks)
    if trainer.owns_memory:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if trainer.average is not None:
        trainer.average.give_to(networks)
    return networks


def _labels(trainer: Trainer, networks: Networks) -> Labels:
    data, config = trainer.data, trainer.config
    unseen = trainer.label_statistics.never_seen()
    now = np.empty((0, data.n_classes))
    if len(unseen):
        with random_state(data.device, predictions(config.seed, trainer.epoch)):
            probabilities = predict(
                networks,
                data.inputs,
                mean_probabilities,
                torch.from_numpy(unseen),
                n_classes=data.n_classes,
                precision=config.precision,
            )
        now = probabilities.cpu().numpy()
    weights = data.full_weights if trainer.noise_estimate.noise_rate is None else data.sample_weights
    if not (data.full_weights > 0).all():
        weights = np.where(data.full_weights > 0, weights, 0)
    return trainer.label_statistics.labels(now, trainer.noise_estimate, weights)


def _temperature(trainer: Trainer, networks: Networks) -> float:
    """That with which the networks are as sure of the training data as is right out of sample."""
    wanted = trainer.noise_estimate.confidence
    if wanted is None:
        return 1.0
    data, config = trainer.data, trainer.config
    some = torch.from_numpy(drawn(data.drawn.numpy(), CALIBRATION_EXAMPLES))
    weights = torch.from_numpy(data.sample_weights[some.numpy()])
    with random_state(data.device, calibration(config.seed, trainer.epoch)):
        logits = predict(
            networks, data.inputs, _side_by_side, some, n_classes=data.n_classes, precision=config.precision
        )
    logits = logits.cpu().double().movedim(1, 0)  # not every device has double precision

    def confidence(log_temperature: float) -> float:
        probabilities = (logits / math.exp(log_temperature)).softmax(2).mean(0)
        return float(weights @ probabilities.amax(1) / weights.sum())

    # networks that have forgotten what is wrong are sure enough; others have learnt that labels are wrong
    smallest = 1.0 if trainer.noise_estimate.forget_rate else MINIMUM_TEMPERATURE
    lowest, highest = math.log(smallest), math.log(MAXIMUM_TEMPERATURE)
    if not confidence(lowest) > wanted:  # NaN included
        return 1.0 if math.isnan(confidence(0.0)) else smallest
    if confidence(highest) >= wanted:
        return MAXIMUM_TEMPERATURE
    return math.exp(brentq(lambda each: confidence(each) - wanted, lowest, highest, xtol=1e-6))


def _side_by_side(logits: Tensor) -> Tensor:
    """(n, 2, n_classes) of (2, n, n_classes)."""
    return logits.movedim(0, 1)
