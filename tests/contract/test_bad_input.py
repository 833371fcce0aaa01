"""Bad input is told in the user's words, and costs nothing that was there."""

import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Items, Net, fast
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.utils.data import TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach._config import NUMBERS
from skcoteach.networks import SmallCNN

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def refused(table):
    """Whether fit refuses, and leaves the earlier fit whole, ``feature_names_in_`` included."""
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    estimator = fast().fit(frame, y)
    before, expected = vars(estimator).copy(), estimator.predict_proba(frame)

    def check(words, X=X, y=y, *, error=ValueError, sample_weight=None, **parameters):
        own = {name: getattr(estimator, name) for name in parameters if hasattr(estimator, name)}
        estimator.set_params(**parameters)
        with pytest.raises(error, match=words), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(X, y, sample_weight=sample_weight)
        estimator.set_params(**own)
        for name in parameters.keys() - own.keys():  # those with a prefix
            delattr(estimator, name)
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is before[name] for name in before)
        assert_array_equal(estimator.predict_proba(frame), expected)

    return check


def with_value(X, value):
    X = X.copy()
    X[3, 2] = value
    return X


def quantized(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will drop it
        return torch.quantize_per_tensor(torch.tensor(X), 0.1, 0, torch.qint8)


BAD_X = {
    "NaN": (lambda X: with_value(X, np.nan), "X contains NaN"),
    "infinity": (lambda X: with_value(X, np.inf), "X contains infinity"),
    "NaN in a tensor": (lambda X: torch.tensor(with_value(X, np.nan)), "X contains NaN"),
    "1-D": (lambda X: X[:, 0], "Expected 2D array"),
    "1-D tensor": (lambda X: torch.tensor(X[:, 0]), "Expected 2D array"),
    "series": (lambda X: pd.Series(X[:, 0]), "Expected a 2-dimensional container"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "complex tensor": (lambda X: torch.tensor(X + 1j), "Complex data not supported"),
    "text": (lambda X: X.astype(str).astype(object) + "x", "could not convert"),
    "strings": (lambda X: X.astype(str), "^X cannot be used: dtype='numeric' is not compatible"),
    "ragged": (lambda X: [[1.0], *X.tolist()], "^X cannot be used: setting an array element with a sequence"),
    "a column's name twice": (
        lambda X: pd.DataFrame(X[:, :2], columns=["a", "a"]),
        "^X cannot be used: Expected unique",
    ),
    "sparse of three axes": (lambda X: sparse.coo_array(X[:, None]), "^X cannot be used: .*must be 1D or 2D"),
    "items without numbers": (lambda X: Items(X[:, :0]), r"items of X with 0 feature\(s\)"),
    "a complex item": (lambda X: [*torch.tensor(X[1:]), torch.tensor(X[0] + 1j)], "item 199 of X is complex"),
    "a sparse item": (lambda X: [*torch.tensor(X[1:]), torch.tensor(X[0]).to_sparse()], "Item 199 of X .* of layout"),
    "items without numbers to read": (lambda X: list(torch.tensor(X).to("meta")), "Item 0 of X .*on the meta device"),
    "masked": (lambda X: np.ma.masked_greater(X, 1), "X is a masked array"),
    "structured": (lambda X: np.zeros(200, dtype=[("a", "f4"), ("b", "i4")]), r"fields \['a', 'b'\].*unstructured"),
    "quantized": (quantized, "Give X.dequantize"),
    "frame with text": (
        lambda X: pd.DataFrame(X, columns=list("abcdefgh")).assign(
            city="Rome", n="1.5", day=pd.Timestamp("2020-01-01")
        ),
        r"columns \['city', 'day'\] of X do not hold numbers: .*[^.]\. Encode them, by .*OneHotEncoder",
    ),
}


@pytest.mark.parametrize("name", BAD_X)
def test_x(name, table, refused):
    change, words = BAD_X[name]
    refused(words, X=change(table[0]))


NO_DATA = {
    "None": (None, "X is a NoneType"),
    "text": ("abc", "X is a str"),
    "iterator": (iter([1]), "X is a list_iterator"),
    "list of dicts": ([{"a": 1.0}] * 200, "items of X are dicts.*DictVectorizer"),
}


@pytest.mark.parametrize("name", NO_DATA)
def test_what_is_no_x(name, refused):
    X, words = NO_DATA[name]
    refused(words, X=X, error=TypeError)


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, pd.Series, lambda texts: pd.Series(texts, index=range(5, 205))]
)
def test_texts_are_told_what_makes_numbers_of_them(kind, refused):
    refused("X holds texts. Give numbers: .*TfidfVectorizer.*tokenizer", X=kind(["some words", "others"] * 100))


def test_a_dataset_of_hugging_face_is_told_which_column_to_give(table, refused):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"numbers": table[0].tolist(), "label": table[1].tolist()})
    refused(r"columns \['numbers', 'label'\].*with_format\(\"torch\"\)", X=rows, error=TypeError)
    assert fast(epochs=1).fit(rows.with_format("torch")["numbers"], rows["label"]).n_features_in_ == table[0].shape[1]


def test_labels_in_a_dataset_are_not_read(table):
    dataset = TensorDataset(torch.tensor(table[0]), torch.tensor(table[1]))
    for y in ((), (None,)):
        with pytest.raises(ValueError, match="y is None. Labels in a Dataset are not read"):
            fast().fit(dataset, *y)


def test_images_with_the_channels_last_are_told_how_to_turn(refused):
    X = np.zeros((200, 9, 10, 3), dtype=np.float32)
    refused(r"of \(2, 9, 10, 3\) the last axis seems to be that of the channels.*transpose\(0, 3, 1, 2\)", X=X)
    for module in (lambda n_channels, n_classes: SmallCNN(n_channels, n_classes), None):
        assert fast(module=module, epochs=1).fit(X.transpose(0, 3, 1, 2)[:40], np.arange(40) % 2).n_iter_ == 1


def test_three_axes_are_told_how_a_network_for_them_looks(table):
    X = table[0][:, None]
    with pytest.raises(ValueError, match="For sequences of .* say: (lambda .*)") as told:
        fast().fit(X, table[1])
    module = eval(str(told.value).partition("say: ")[2].removesuffix("."), {"nn": nn})  # noqa: S307
    assert fast(module=module).fit(X, table[1]).predict_proba(X).shape == (200, 3)


@pytest.mark.parametrize("make", [np.array, torch.tensor, Items, list], ids=["array", "tensor", "Dataset", "list"])
def test_no_examples(make, refused):
    refused("0 sample|Expected 2D array", X=make(np.empty((0, 8), dtype=np.float32)), y=[])


BAD_Y = {
    "None": (lambda y: None, "requires y"),
    "short": (lambda y: y[:-1], "different lengths: 200 examples and 199 labels"),
    "NaN": (lambda y: np.where(y == 1, np.nan, y), "y contains NaN. Every example needs a given label"),
    "a None": (lambda y: [None, *y[1:].astype(object)], "y contains None"),
    "continuous": (lambda y: y + 0.5, "continuous"),
    "mixed": (lambda y: np.array(["a", *y[1:]], dtype=object), "cannot be sorted"),
    "one class": (lambda y: np.ones_like(y), "1 class"),
    "2-D": (lambda y: np.stack([y, y], 1), "y should be a 1d array"),
    "one-hot": (lambda y: np.eye(3)[y], r"y should be a 1d array.*\(200, 3\).*one-hot: give y.argmax\(1\)"),
    "one-hot tensor": (lambda y: torch.eye(3)[y], "one-hot"),
    "one-hot data frame": (pd.get_dummies, r"one-hot: give y.idxmax\(axis=1\)"),
    "pandas' NA": (lambda y: pd.Series(y, dtype="Int64").replace(1, pd.NA), "y contains NaN"),
    "NA among strings": (lambda y: pd.Series(y.astype(str), dtype="string").replace("1", pd.NA), "contains None or NA"),
    "NA in a list": (lambda y: [pd.NA, *y[1:].tolist()], "contains None or NA"),
    "NaN among strings": (lambda y: [np.nan, *y[1:].astype(str).tolist()], "y contains NaN"),
    "strings and numbers in a list": (lambda y: ["a", *y[1:].tolist()], "cannot be sorted"),
    "NaT": (lambda y: np.where(y == 1, np.datetime64("NaT"), y.astype("datetime64[D]")), "y contains NaN"),
    "void": (lambda y: y.view("V8"), "labels in y are of dtype"),
    "sparse of SciPy": (lambda y: sparse.csr_array(y[:, None]), "^y cannot be used"),
    "three axes": (lambda y: y[:, None, None], "^y cannot be used: Found array with dim 3"),
    "bytes": (lambda y: y.astype("S"), r"are bytes. Give strings: \[label.decode"),
    "bytes as objects": (lambda y: y.astype("S").astype(object), "are bytes"),
    "masked": (lambda y: np.ma.masked_equal(y, 1), "y is a masked array"),
    "complex": (lambda y: y + 1j, "Complex data not supported: the labels in y are complex numbers.$"),
    "sparse": (lambda y: torch.tensor(y).to_sparse(), "of layout torch.sparse_coo"),
    "meta": (lambda y: torch.tensor(y).to("meta"), "on the meta device"),
}


@pytest.mark.parametrize("name", BAD_Y)
def test_y(name, table, refused):
    change, words = BAD_Y[name]
    refused(words, y=change(table[1]))


BAD_WEIGHTS = {
    "short": ([1.0], "sample_weight"),
    "negative": (-np.ones(200), "[Nn]egative"),
    "NaN": (np.full(200, np.nan), "sample_weight contains NaN"),
    "zero": (np.zeros(200), "non-zero"),
    "dates": (np.zeros(200, dtype="datetime64[D]"), "sample_weight must hold numbers"),
    "strings": (["much"] * 200, "^sample_weight cannot be used: could not convert"),
    "complex": (np.ones(200) + 1j, "^sample_weight cannot be used: Complex data"),
    "too large": ([10**400] * 200, "^sample_weight cannot be used: int too large"),
    "sparse": (torch.ones(200).to_sparse(), "^sample_weight cannot be used: .*of layout"),
    "masked": (np.ma.masked_equal(np.arange(200.0), 1), "sample_weight is a masked array"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights(name, refused):
    weights, words = BAD_WEIGHTS[name]
    refused(words, sample_weight=weights)


BAD_PARAMETERS = {
    "class weight of another class": ({"class_weight": {7: 2.0}}, "not in y"),
    "negative class weight": ({"class_weight": {0: -2.0}}, "finite weights of 0 or more"),
    "class weight too large": ({"class_weight": {0: 10**400}}, "class_weight must hold numbers"),
    "a fraction": ({"lr": Fraction(1, 100)}, r"'lr' parameter must be a number of Python or NumPy; got Fraction"),
    "too large a number": ({"lr": 10**400}, "'lr' parameter must be a number that a float can hold"),
    "too large a device": ({"device": 10**30}, "device=10"),
    "class weights all zero": ({"class_weight": {0: 0, 1: 0, 2: 0}}, "weight zero"),
    "forget rate 1": ({"forget_rate": 1.0}, "'forget_rate' parameter"),
    "forget rate as text": ({"forget_rate": "a lot"}, "'forget_rate' parameter"),
    "class floor": ({"class_floor": 1.5}, "'class_floor' parameter"),
    "no epochs": ({"epochs": 0}, "'epochs' parameter"),
    "epochs as float": ({"epochs": 2.0}, "'epochs' parameter"),
    "batch size": ({"batch_size": 0}, "'batch_size' parameter"),
    "num_iter_per_epoch": ({"num_iter_per_epoch": 0}, "'num_iter_per_epoch' parameter"),
    "lr": ({"lr": 0}, "'lr' parameter"),
    "exponent": ({"exponent": 0}, "'exponent' parameter"),
    "average decay": ({"average_decay": 1.0}, "'average_decay' parameter"),
    "precision": ({"precision": "int8"}, "'precision' parameter"),
    "random state": ({"random_state": "x"}, "'random_state' parameter"),
    "module": ({"module": 3}, "'module' parameter"),
    "augment": ({"augment": 3}, "'augment' parameter"),
    "optimizer instance": ({"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1)}, "'optimizer' parameter"),
    "warm-up too long": ({"num_gradual": 5}, r"num_gradual \(5\) is greater than epochs"),
    "unknown device": ({"device": "gpu7"}, "device='gpu7'"),
    "optimizer without lr": ({"optimizer": lambda params: torch.optim.SGD(params)}, "<lambda> takes no lr"),
    "optimizer that takes more": ({"optimizer": lambda params, lr, more: None}, "<lambda> refuses .* 'more'"),
    "option that fails at the first step": (
        {"optimizer__differentiable": 3},
        "optimizer=Adam cannot train these networks with its options",
    ),
    "option that torch's own function refuses": ({"optimizer__amsgrad": None}, "optimizer=Adam cannot train"),
    "optimizer with a closure": ({"optimizer": torch.optim.LBFGS}, "closure"),
    "diverged": ({"lr": 1e30, "epochs": 3}, "diverged"),
    **{f"{name} True": ({name: True}, f"'{name}' parameter.*must be a") for name in sorted(NUMBERS)},
    "epochs NumPy's True": ({"epochs": np.True_}, "'epochs' parameter"),
}


def test_all_parameters_that_are_numbers_are_known():
    told = CoTeachingClassifier._parameter_constraints.items()
    assert {name for name, kinds in told if any(isinstance(kind, Interval) for kind in kinds)} - {"device"} == (
        NUMBERS - {"random_state"}
    )


MEANT = {
    "max_iter": "epochs", "n_epochs": "epochs", "noise_rate": "forget_rate", "learning_rate": "lr",
    "optimizer_momentum": "optimizer__momentum", "module_hidden": "module__hidden", "forgetrate": "forget_rate",
    "modul__hidden": "module__hidden", "optimiser__momentum": "optimizer__momentum", "batchsize": "batch_size",
    "hidden_layer_sizes": "module__hidden", "weight_decay": "optimizer__weight_decay",
}  # fmt: skip


@pytest.mark.parametrize("name", [*MEANT, "warm_start", "xyz"])
def test_unknown_parameters_are_told_what_is_meant(name):
    words = f"Did you mean {MEANT[name]}\\?" if name in MEANT else f"{name}'((?!Did you mean).)*$"
    with pytest.raises(TypeError, match=words):
        CoTeachingClassifier(**{name: 1})
    with pytest.raises(ValueError, match=words.removesuffix("$")):
        CoTeachingClassifier().set_params(**{name: 1})


def test_a_prefix_alone_is_no_parameter_and_a_number_is_no_classes(table):
    with pytest.raises(TypeError, match=r"'module__'. Did you mean module\?"):
        CoTeachingClassifier(module__=1)
    with pytest.raises(ValueError, match="^classes cannot be used: .*1d array"):
        fast().partial_fit(*table, classes=3)


@pytest.mark.parametrize("classes", [[b"a", b"b"], [b"a", "b"], [0, 1, "2"]])
def test_classes_of_several_kinds_are_no_strings(classes, table):
    with pytest.raises(ValueError, match="classes must be all numbers or all strings, not bytes"):
        fast().partial_fit(*table, classes=classes)


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters(name, refused):
    parameters, words = BAD_PARAMETERS[name]
    refused(words, **parameters)


class Wide(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.linear = nn.Linear(n_features, 7)

    def forward(self, x):
        return self.linear(x)


class Failing(Net):
    def forward(self, x):
        raise OSError("the user's own error")


class NoTensor(Net):
    def forward(self, x):
        return (super().forward(x),)


class EightBits(Net):
    def forward(self, x):
        return super().forward(x).to(torch.float8_e4m3fn)


BAD_PLUG_INS = {
    "an optimizer that makes none": ({"optimizer": lambda p, lr: 3}, TypeError, "torch.optim.Optimizer"),
    "a module that makes no module": ({"module": lambda: 3}, TypeError, "torch.nn.Module is expected"),
    "wrong output": ({"module": Wide}, ValueError, r"\(2, 3\).*got shape \(2, 7\)"),
    "no tensor": ({"module": NoTensor}, TypeError, "returned a tuple"),
    "wrong input": (
        {"module": lambda: nn.Linear(5, 3)},
        ValueError,
        r"Linear cannot take a batch of X with shape \(2, 8",
    ),
    "an impossible layer": (
        {"module": lambda: nn.Linear(-1, 3)},
        ValueError,
        "module=<lambda> cannot be made with .*negative dimension",
    ),
    "a wrong width": ({"module__hidden": "8"}, ValueError, "module=MLP cannot be made with .*hidden must be"),
    "no weights": (
        {"module": lambda: nn.Linear(8, 3, device="meta")},
        ValueError,
        "made by module lies on the meta device",
    ),
    "eight bits": ({"module": EightBits}, TypeError, "floating point logits; got torch.float8"),
    "augment that takes nothing": ({"augment": lambda: None}, ValueError, "augment cannot take .*positional argument"),
    "sparse augmented": ({"augment": lambda x: x.to_sparse()}, TypeError, "augment must return .*of layout"),
    "nothing to train": ({"module": nn.Identity}, ValueError, "shape|no parameters"),
    "a module that needs more": ({"module": nn.Linear}, ValueError, "module__in_features"),
    "the user's own error": ({"module": Failing}, OSError, "^the user's own error$"),
}


@pytest.mark.parametrize("name", BAD_PLUG_INS)
def test_modules_and_optimizers(name, refused):
    parameters, error, words = BAD_PLUG_INS[name]
    refused(words, error=error, **parameters)
