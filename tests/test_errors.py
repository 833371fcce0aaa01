"""Warnings point at the user's line, and errors of torch are told in the user's words, his own as they are."""

import _thread
import contextlib
import functools
import sys
import time
import warnings

import numpy as np
import pytest
import sklearn.pipeline
import torch
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skcoteach
from skcoteach import CoTeachingClassifier, _errors
from skcoteach._errors import (
    DivergedError,
    explained,
    is_of_the_device,
    named,
    raised_by_call,
    raised_by_torch,
    warn_user,
)
from skcoteach._training.engines.chains import Chains
from skcoteach.benchmarks import accuracy
from skcoteach.networks import SmallCNN, Standardize

pytestmark = pytest.mark.filterwarnings("error")

#: Columns of which float32 holds no differences, which is warned of.
X = np.arange(40.0)[:, None] + [0, 1e10]
Y = np.arange(40) % 2


def classifier():
    return CoTeachingClassifier(forget_rate=0.2, epochs=1, device="cpu", random_state=0)


def line():
    """Where the caller is."""
    caller = sys._getframe(1)
    return caller.f_code.co_filename, caller.f_lineno


@pytest.fixture
def told():
    with warnings.catch_warnings(record=True) as all_told:
        warnings.simplefilter("always")
        yield all_told


def places(told):
    return [(warning.filename, warning.lineno) for warning in told]


def run_as_file(source, file, **names):
    """Run ``source`` as if it stood in that file; the names that it leaves."""
    exec(compile(source, file, "exec"), names)
    return names


# --- where warnings point --------------------------------------------------------------------------------------------


def test_a_warning_has_its_words_and_category_and_points_at_who_called(told):
    warn_user("mine"), warn_user("mine, too", FutureWarning), told.append(line())
    *warned, here = told
    assert [(str(each.message), each.category) for each in warned] == [
        ("mine", UserWarning),
        ("mine, too", FutureWarning),
    ]
    assert places(warned) == [here] * 2


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_methods_that_scikit_learn_or_contextlib_wraps_warn_at_the_line_that_calls_them(method, told):
    """``fit`` is managed by callbacks, both ignore the modes of the caller by a decorator of contextlib."""
    call = functools.partial(getattr(classifier(), method), X, Y, **{} if method == "fit" else {"classes": [0, 1]})
    call(), told.append(line())
    warned, here = told
    assert "float32 does not hold" in str(warned.message)
    assert places([warned]) == [here]


def test_a_decorator_of_the_users_from_contextlib_is_not_in_the_way(told):
    @contextlib.contextmanager
    def mine():
        yield

    @mine()
    def train():
        classifier().fit(X, Y), told.append(line())

    train()
    assert places(told[:1]) == told[1:]


def test_through_a_pipeline_the_line_is_scikit_learns(told):
    make_pipeline(FunctionTransformer(), classifier()).fit(X, Y)
    assert [warning.filename for warning in told] == [sklearn.pipeline.__file__]


def test_through_a_cross_validation_the_line_is_scikit_learns(told):
    cross_val_predict(classifier(), X, Y, cv=2)
    assert len(told) == 2
    assert all(warning.filename.startswith(sklearn.__path__[0]) for warning in told)
    assert not any("callback" in warning.filename for warning in told)


def test_a_subclass_of_the_users_warns_at_its_own_line(told):
    class Mine(CoTeachingClassifier):
        def fit(self, X, y):
            return super().fit(X, y), told.append(line())

    Mine(forget_rate=0.2, epochs=1, device="cpu").fit(X, Y)
    assert places(told[:1]) == told[1:]


def test_benchmarks_are_users(told):
    run_as_file("warn_user('mine')", accuracy.__file__, warn_user=warn_user)
    assert places(told) == [(accuracy.__file__, 1)]


@pytest.mark.parametrize("name", ["noise", "recipes", "_training.trainer", "_data.inputs"])
def test_files_of_the_package_are_not_pointed_at(name, told):
    file = __import__(f"skcoteach.{name}", fromlist=["__file__"]).__file__
    run_as_file("warn_user('mine')", file, warn_user=warn_user)
    assert places(told) == [(__file__, run_as_file.__code__.co_firstlineno + 2)]  # who ran it


def test_a_folder_of_the_users_may_be_called_almost_like_the_package(told):
    file = skcoteach.__path__[0] + "_of_mine/script.py"
    run_as_file("warn_user('mine')", file, warn_user=warn_user)
    assert places(told) == [(file, 1)]


def test_where_there_is_no_user_the_outermost_line_has_to_do(told):
    _thread.start_new_thread(warn_user, ("mine",))
    give_up = time.monotonic() + 60
    while not told and time.monotonic() < give_up:
        time.sleep(0.01)
    assert [warning.filename for warning in told] == [_errors.__file__]


def test_warnings_can_be_made_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        with pytest.raises(FutureWarning, match="mine"):
            warn_user("mine", FutureWarning)


# --- whose error it is -----------------------------------------------------------------------------------------------


def error_of(call):
    with pytest.raises(Exception) as raised:  # noqa: B017
        call()
    return raised.value


class Multiplying(nn.Module):
    """Its own line is what fails."""

    def forward(self, x):
        return x @ torch.ones(3, 2)


def observe():
    Standardize(3).observe(torch.zeros(2, 4), torch.ones(2))


def compute_chains():
    engine = Chains([nn.Linear(4, 3), nn.Linear(4, 3)])
    engine.logits(engine.prepare(torch.zeros(2, 5)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Linear(4, 3)(torch.zeros(2, 5)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())(torch.zeros(2, 3, 8, 8)),
        lambda: nn.functional.cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)),
        lambda: SmallCNN(1, 3)(torch.zeros(2, 1, 4, 4)),
        observe,
        compute_chains,
    ],
    ids=["layer", "sequential", "function", "network of the package", "layer of the package", "engine"],
)
def test_errors_in_files_of_torch_and_in_layers_of_the_package_are_torchs(call):
    assert raised_by_torch(error_of(call))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Multiplying()(torch.zeros(2, 5)),
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: np.zeros(2) @ np.zeros(3),
        lambda: [][0],
        lambda: classifier().fit(X, Y[:-1]),
    ],
    ids=["forward of the user", "line of the user", "numpy", "python", "elsewhere in the package"],
)
def test_errors_elsewhere_are_not(call):
    assert not raised_by_torch(error_of(call))


def test_what_the_device_has_no_room_for_is_its_own_fault():
    assert is_of_the_device(torch.OutOfMemoryError("mine"))
    assert is_of_the_device(torch.AcceleratorError("mine"))
    for error in (RuntimeError("CUDA out of memory"), MemoryError(), ValueError()):
        assert not is_of_the_device(error)


def test_a_training_that_diverged_is_a_value_that_cannot_be_used():
    assert issubclass(DivergedError, ValueError)


# --- errors retold ---------------------------------------------------------------------------------------------------


def raise_in_torch(error):
    run_as_file("def fail():\n    raise error", torch.__file__, error=error)["fail"]()


@pytest.mark.parametrize(
    ("network", "inputs", "words"),
    [
        (nn.Linear(4, 3), torch.zeros(2, 5), r"Linear cannot take .* shape \(2, 5\) and dtype torch.float32: mat1 and"),
        (nn.Linear(4, 3), torch.zeros(2, 4).double(), r"dtype torch.float64: .*dtype"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), torch.zeros(2, 3, 8, 8), r"Sequential cannot .* \(2, 3, 8, 8\)"),
        (nn.Embedding(3, 2), torch.tensor([[7]]), r"Embedding cannot .* \(1, 1\) and dtype torch.int64: index out of"),
    ],
    ids=["features", "dtype", "channels", "index"],
)
def test_what_torch_cannot_compute_is_told_with_what_the_network_was_given(network, inputs, words):
    with pytest.raises(ValueError, match=words) as raised, explained(network, inputs):
        network(inputs)
    assert isinstance(raised.value.__cause__, (RuntimeError, IndexError))


class TwoInputs(nn.Linear):
    def forward(self, x, y):
        if len(y) == 1:
            raise TypeError("mine")
        return super().forward(x) + super().forward(y)


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ({"x": 4}, r"TwoInputs does not take the entries of X, x, .*missing 1 required positional argument: 'y'"),
        ({"x": 4, "y": 4, "z": 4}, r"does not take the entries of X, x, y, z, .*unexpected keyword argument 'z'"),
        (
            {"x": 5, "y": 4},
            r"cannot take a batch of X with the entries x \(2, 5\) torch.float32, y \(2, 4\) .*: mat1 and",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_entries_that_a_forward_does_not_take_are_told_by_their_keys(widths, words):
    batch = {key: torch.zeros(2, width) for key, width in widths.items()}
    network = TwoInputs(4, 3)
    with pytest.raises(ValueError, match=words), explained(network, batch):
        network(**batch)


def test_the_users_own_type_errors_about_a_dict_pass_as_they_are():
    batch = {"x": torch.zeros(1, 4), "y": torch.zeros(1, 4)}
    with pytest.raises(TypeError, match="^mine$"), explained(TwoInputs(4, 3), batch):
        TwoInputs(4, 3)(**batch)


def test_where_nothing_fails_nothing_is_said():
    with explained(nn.Linear(4, 3), torch.zeros(2, 4)):
        pass


@pytest.mark.parametrize(
    "error", [RuntimeError("mine"), IndexError("mine"), LookupError("mine"), KeyboardInterrupt()], ids=repr
)
def test_the_users_own_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as raised, explained(nn.Linear(4, 3), torch.zeros(2, 4)):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "error",
    [KeyError("mine"), torch.OutOfMemoryError(), torch.AcceleratorError()],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_torch_that_say_nothing_of_the_batch_pass_as_they_are(error):
    with pytest.raises(type(error)) as raised, explained(nn.Linear(4, 3), torch.zeros(2, 4)):
        raise_in_torch(error)
    assert raised.value is error


@pytest.mark.parametrize(
    ("message", "reason"), [("\nno compiler found\nand much more\n", "no compiler found"), ("", "Unsupported")]
)
@pytest.mark.parametrize("module", ["torch._dynamo.exc", "torch._inductor.exc"])
def test_what_cannot_be_compiled_is_told_in_one_line_with_the_remedy(module, message, reason):
    error = type("Unsupported", (RuntimeError,), {"__module__": module})(message)
    words = f"^compile=True cannot be done here: {reason}. Use compile=False.$"
    with pytest.raises(ValueError, match=words) as raised, explained(nn.Linear(4, 3), torch.zeros(2, 4)):
        raise error
    assert raised.value.__cause__ is error


def fails_by_itself(x):
    raise TypeError("mine")


@pytest.mark.parametrize(
    ("call", "is_by_call"),
    [(lambda: None, True), (len, True), (fails_by_itself, False)],
    ids=["takes nothing", "written in C", "the user's own"],
)
def test_a_call_that_does_not_fit_is_told_from_what_is_called(call, is_by_call):
    try:
        call(3)
    except TypeError as error:
        assert raised_by_call(error) == is_by_call


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: np.zeros(3) + np.zeros(4), ValueError, None),  # the user's line
        (lambda: np.linspace(0, 1, -1), ValueError, "^weights cannot be used: Number of samples"),
        (lambda: np.full(3, "a").mean(), TypeError, "^weights cannot be used: "),
        (lambda: skcoteach.noise.estimate_noise([0, 1], np.ones((3, 2))), ValueError, "^weights cannot be used: "),
    ],
    ids=["the user's own", "of NumPy", "a TypeError", "of the package, without the name"],
)
def test_what_a_library_refuses_without_its_name_gets_it(call, kind, words):
    with pytest.raises(kind) as raised, named("weights"):
        call()
    if words is None:
        assert raised.value.__cause__ is None
    else:
        raised.match(words)
        assert raised.value.__cause__ is not None
