"""Parameters as users give them become parameters as the training takes them, or are refused before it starts."""

import random

import numpy as np
import pytest
import torch
from _training.builders import X, Y, configured, estimator, many
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skcoteach._config import is_prefixed, resolve

pytestmark = pytest.mark.filterwarnings("error")


def parameters_of(**parameters):
    return estimator(**parameters).get_params(deep=False)


# --- what arrives ----------------------------------------------------------------------------------------------------


def test_what_the_training_needs_arrives_as_it_was_given():
    given = {
        "module": lambda: None,
        "module2": lambda: None,
        "optimizer": torch.optim.SGD,
        "lr": 0.25,
        "epochs": 7,
        "batch_size": 9,
        "num_iter_per_epoch": 2,
        "num_gradual": 3,
        "exponent": 0.5,
        "class_floor": 0.5,
        "epoch_decay_start": 4,
        "augment": abs,
        "average_decay": 0.9,
        "precision": "tf32",
        "compile": True,
    }
    config = configured(**given)
    assert {name: getattr(config, name) for name in given} == given


def test_prefixed_names_are_passed_on_without_the_prefix():
    config = configured(module__hidden=5, module2__hidden=7, optimizer__momentum=0.5, module__layer__width=3)
    assert config.module_options == {"hidden": 5, "layer__width": 3}
    assert config.module2_options == {"hidden": 7}
    assert config.optimizer_options == {"momentum": 0.5}


@pytest.mark.parametrize("name", ["module__hidden", "module2__hidden", "optimizer__momentum", "module__a__b"])
def test_names_with_a_prefix_are_passed_on(name):
    assert is_prefixed(name)


@pytest.mark.parametrize("name", ["module", "module__", "module2__", "optimizer__", "modules__a", "lr__a"])
def test_other_names_are_not(name):
    assert not is_prefixed(name)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("bf16", torch.float32), ("float64", torch.float64)],
)
def test_networks_are_of_double_precision_where_asked_for_and_of_single_else(precision, dtype):
    assert configured(precision=precision).dtype == dtype


def test_the_device_is_the_one_asked_for_unless_a_training_goes_on_where_it_was():
    assert configured(device="cpu").device == torch.device("cpu")
    meta = torch.device("meta")
    assert resolve(parameters_of(device="cpu"), X, device=meta).device == meta
    assert resolve(parameters_of(device="gone"), X, device=meta).device == meta


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_random_state_gives_the_same_seed():
    first, second, other = (configured(random_state=random_state).seed for random_state in (0, 0, 1))
    assert first == second != other
    assert type(first) is int


def test_a_random_state_instance_is_consumed():
    random_state = np.random.RandomState(0)
    assert configured(random_state=random_state).seed != configured(random_state=random_state).seed
    assert configured(random_state=np.random.RandomState(0)).seed == configured(random_state=0).seed


def test_no_random_state_draws_from_the_operating_system_and_not_from_global_states():
    seeds = []
    for _ in range(2):
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)
        before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
        seeds.append(configured(random_state=None).seed)
        assert (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()) == before
    assert seeds[0] != seeds[1]


def test_the_seed_of_an_earlier_training_is_kept_and_none_is_drawn():
    random_state = np.random.RandomState(0)
    assert resolve(parameters_of(random_state=random_state), X, seed=7).seed == 7
    assert random_state.randint(2**31) == np.random.RandomState(0).randint(2**31)


# --- numbers of NumPy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("lr", np.float32(0.5), float),
        ("epochs", np.int8(100), int),
        ("batch_size", np.uint8(200), int),
        ("num_iter_per_epoch", np.int16(2), int),
        ("num_gradual", np.int8(5), int),
        ("exponent", np.float16(0.5), float),
        ("class_floor", np.float64(0.25), float),
        ("epoch_decay_start", np.int8(4), int),
        ("average_decay", np.float32(0.5), float),
        ("precision", np.str_("tf32"), str),
        ("compile", np.bool_(True), bool),
    ],
)
def test_scalars_of_numpy_become_pythons(name, value, kind):
    config = configured(**{name: value})
    assert type(getattr(config, name)) is kind
    assert getattr(config, name) == value


def test_a_device_may_be_a_number_of_numpy():
    with pytest.raises(ValueError, match="device=99 cannot be used"):
        configured(device=np.int64(99))


def test_what_is_passed_on_stays_as_it_was_given_but_for_numbers_of_numpy():
    for given in ([1, 2], np.ones(2), "x"):
        assert configured(module__a=given).module_options["a"] is given
        assert configured(optimizer__momentum=given).optimizer_options["momentum"] is given
    for given, expected in ((np.float32(0.5), float), (np.int8(1), int), (np.True_, bool)):
        assert type(configured(module__a=given).module_options["a"]) is expected
        assert type(configured(optimizer__a=given).optimizer_options["a"]) is expected


# --- what cannot be --------------------------------------------------------------------------------------------------

IMPOSSIBLE = [
    ({"num_gradual": 7}, r"num_gradual \(7\) is greater than epochs \(6\)"),
    ({"exponent": 1e-20}, r"exponent=1e-20 makes the warm-up end at a forget rate of 0.2 \*\* exponent = 1, where"),
    ({"device": "gone"}, "device='gone' cannot be used: "),
]
every_impossible = pytest.mark.parametrize(
    ("parameters", "words", "forget_rate"),
    # which forget rates an exponent is too small for is not known before the estimate
    [(*each, rate) for each in IMPOSSIBLE for rate in (0.2, "auto") if rate != "auto" or "exponent" not in each[0]],
)


@every_impossible
def test_parameters_that_cannot_be_used_together_or_here_are_refused(parameters, words, forget_rate):
    with pytest.raises(ValueError, match=words):
        configured(forget_rate=forget_rate, **parameters)


@every_impossible
def test_they_are_refused_before_time_is_spent_on_networks_or_on_the_estimate(parameters, words, forget_rate):
    def module():
        raise AssertionError("too late")

    clf = estimator(module=module, forget_rate=forget_rate, **parameters)
    with pytest.raises(ValueError, match=words):
        clf.fit(*many())
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)


def test_a_forget_rate_of_zero_has_a_schedule_with_any_exponent():
    assert configured(forget_rate=0.0, exponent=1e-20).forget_rates(0.0).tolist() == [0.0] * 6


def test_resolving_changes_no_parameter():
    parameters = parameters_of(lr=np.float32(0.5), module__hidden=3)
    before = dict(parameters)
    resolve(parameters, X)
    assert parameters == before


@pytest.mark.parametrize(("forget_rate", "data"), [(0.2, (X, Y)), ("auto", many())], ids=["given", "estimated"])
def test_a_fit_leaves_the_parameters_of_the_estimator_as_they_are(forget_rate, data):
    clf = estimator(forget_rate=forget_rate, epochs=np.int8(1), lr=np.float32(0.5), module__hidden=3)
    before = dict(vars(clf))
    clf.fit(*data)
    assert all(vars(clf)[name] is value for name, value in before.items())
