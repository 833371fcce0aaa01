"""Equal values have equal digests in every process; other values, and other code, have others."""

import copy
import dataclasses
import enum
import functools
import operator
import sys
import threading
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Net
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.base import clone
from torch import nn

from skcoteach import CoTeachingClassifier, augmentation
from skcoteach._digest import Digest, NoDigestError, digest_of


def digest(value):
    made = Digest()
    made.add(value, "it")
    return made.hexdigest()


# --- what counts -----------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Point = namedtuple("Point", "x y")


@dataclass
class Settings:
    depth: int
    names: list


class Slotted:
    __slots__ = ("one",)

    def __init__(self, one):
        self.one = one


class Static:
    """Whose methods are of every kind."""

    scale = 2

    def __init__(self, power):
        self.power = power

    def __call__(self, x):
        return self.scale * x**self.power

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def make(cls):
        return cls(1)

    @property
    def half(self):
        return self.power / 2


def adder(n):
    return lambda x: x + n


def factory(hidden):
    def make(n_features, n_classes):
        return nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))

    return make


def with_default(x, power=2, *, scale=1):
    return scale * x**power


def network(activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), activation(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def scaled(constant):
    if constant == 2:

        class Scaled(nn.Module):
            def forward(self, x):
                return 2 * x

    else:

        class Scaled(nn.Module):
            def forward(self, x):
                return 3 * x

    return Scaled


def tied(are_tied):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    made[1].weight = made[0].weight if are_tied else nn.Parameter(made[0].weight.detach().clone())
    return made


def hooked():
    made = network()
    made[0].register_forward_hook(lambda module, inputs, output: output + 1)
    return made


def frozen():
    made = network()
    made[0].requires_grad_(False)
    return made


def of_eight():
    return np.arange(8.0).reshape(2, 4)


def wrapped(factor):
    @functools.wraps(nn.functional.relu)
    def relu(x):
        return factor * nn.functional.relu(x)

    return relu


def made_at_runtime(factor):
    return dataclasses.make_dataclass("Made", [], namespace={"__call__": lambda self, x: factor * x})()


def with_parametrized(factor):
    class Mine(nn.Linear):
        def forward(self, x):
            return factor * super().forward(x)

    torch.manual_seed(0)
    return nn.utils.parametrizations.weight_norm(Mine(2, 2))


def acts(*factors):
    """Layers of two classes of one name."""
    kinds = {factor: activation(factor) for factor in (2, 3)}
    return nn.Sequential(*(kinds[factor]() for factor in factors))


def activation(factor):
    if factor == 2:

        class Act(nn.Module):
            def forward(self, x):
                return 2 * x

    else:

        class Act(nn.Module):
            def forward(self, x):
                return 3 * x

    return Act


def holding(weight_itself):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(2, 2))
    made.held = [made[0].weight if weight_itself else made[0].weight.detach().clone().requires_grad_()]
    return made


def listening(register, **options):
    made = network()
    getattr(made[0], register)(lambda *arguments: None, **options)
    return made


def with_call(function):
    return type("Calls", (), {"__call__": function})()


def with_buffer(buffer):
    made = nn.Identity()
    made.register_buffer("mean", buffer)
    return made


class Words(set):
    """A set of another class."""


a, b = (lambda x: x + 1), (lambda x: x + 2)  # on one line

#: No two of these are equal.
VALUES = {
    "None": None,
    "True": True,
    "1": 1,
    "1.0": 1.0,
    "-0.0": -0.0,
    "0.0": 0.0,
    "NaN": float("nan"),
    "complex": 1j,
    "string": "1",
    "bytes": b"1",
    "ellipsis": ...,
    "empty list": [],
    "empty tuple": (),
    "nested to the left": [["a"], "b"],
    "nested to the right": ["a", ["b"]],
    "strings that would run together": ["ab", "c"],
    "strings cut elsewhere": ["a", "bc"],
    "dict": {"a": 1, "b": 2},
    "dict in another order": {"b": 2, "a": 1},
    "ordered dict": OrderedDict(a=1, b=2),
    "set": {"a", "b"},
    "frozen set": frozenset({"a", "b"}),
    "deque": deque([1, 2]),
    "named tuple": Point(1, 2),
    "dataclass": Settings(2, ["a"]),
    "another dataclass": Settings(3, ["a"]),
    "slots": Slotted(1),
    "other slots": Slotted(2),
    "wrapped as if of torch": wrapped(1),
    "wrapped as if of torch, another": wrapped(5),
    "of torch in a decorator": torch.no_grad()(nn.functional.relu),
    "class made at runtime": made_at_runtime(2),
    "another made at runtime": made_at_runtime(3),
    "parametrized": with_parametrized(2),
    "parametrized, of another class": with_parametrized(3),
    "namesakes": acts(2, 3, 2),
    "namesakes in another order": acts(2, 3, 3),
    "enum of another value": enum.IntEnum("Width", {"S": 16}).S,
    "enum of yet another value": enum.IntEnum("Width", {"S": 32}).S,
    "weight in a list": holding(True),
    "its copy in a list": holding(False),
    "before": listening("register_forward_pre_hook"),
    "afterwards": listening("register_forward_hook"),
    "with keywords": listening("register_forward_hook", with_kwargs=True),
    "builtin as a method": with_call(torch.relu),
    "another builtin as a method": with_call(torch.tanh),
    "partial method": with_call(functools.partialmethod(with_default, power=2)),
    "another partial method": with_call(functools.partialmethod(with_default, power=3)),
    "buffer of None": with_buffer(None),
    "buffer": with_buffer(torch.ones(2)),
    "sparse tensor": torch.eye(3).to_sparse(),
    "another sparse tensor": 2 * torch.eye(3).to_sparse(),
    "sparse of three axes": sparse.coo_array((np.ones(1), ([1], [0], [1])), shape=(2, 2, 2)),
    "recurrent": nn.GRU(2, 2),
    "moment": np.datetime64(1, "ns"),
    "large number": 10**5000,
    "set of another class": Words({"a", "b"}),
    "enum": Colour.RED,
    "another of it": Colour.BLUE,
    "decimal": Decimal("0.1"),
    "fraction": Fraction(1, 3),
    "path": PurePosixPath("a/b"),
    "float64": of_eight(),
    "float32": of_eight().astype(np.float32),
    "big-endian": of_eight().astype(">f8"),
    "another shape": of_eight().reshape(4, 2),
    "transposed numbers": of_eight().reshape(4, 2).T.copy(),
    "one number": of_eight()[1, 1],
    "array of no axes": np.array(7.0),
    "no rows": np.empty((0, 4)),
    "no columns": np.empty((4, 0)),
    "words": np.array(["ab", "c"]),
    "other words": np.array(["a", "bc"]),
    "objects": np.array(["ab", None, 2], dtype=object),
    "days": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "records": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "another mask": np.ma.masked_array([1.0, 2.0], [False, False]),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "complex tensor": torch.tensor([1 + 2j]),
    "conjugated": torch.tensor([1 + 2j]).conj(),
    "sparse": sparse.csr_array(np.eye(3)),
    "another sparse": sparse.csr_array(2 * np.eye(3)),
    "dtype": torch.float32,
    "another dtype": torch.float64,
    "dtype of NumPy": np.dtype("f4"),
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "lambda": a,
    "lambda on the same line": b,
    "closure": adder(1),
    "another closure": adder(2),
    "factory": factory(32),
    "another factory": factory(64),
    "function": with_default,
    "partial": functools.partial(with_default, power=2),
    "another partial": functools.partial(with_default, power=3),
    "of torch": torch.relu,
    "another of torch": torch.tanh,
    "Python function of torch": nn.functional.relu,
    "ufunc": np.exp,
    "item getter": operator.itemgetter(1),
    "another item getter": operator.itemgetter(2),
    "callable object": Static(1),
    "another callable object": Static(2),
    "bound method": Static(1).__call__,
    "bound method of another": Static(2).__call__,
    "class method": Static.make,
    "class": Static,
    "class of torch": nn.Linear,
    "class with another constant in forward": scaled(2),
    "its namesake": scaled(3),
    "instance of such a class": scaled(2)(),
    "instance of its namesake": scaled(3)(),
    "module": network(),
    "other weights": network(seed=1),
    "another layer": network(nn.Tanh),
    "another option": network(functools.partial(nn.LeakyReLU, 0.1)),
    "frozen": frozen(),
    "hooked": hooked(),
    "tied weights": tied(True),
    "equal weights": tied(False),
    "lazy": nn.LazyLinear(2),
    "own module": Net(3, 2),
    "augmentation": augmentation.RandomShift(2),
    "another augmentation": augmentation.RandomShift(3),
}


def test_no_two_values_have_one_digest():
    digests = {name: digest(value) for name, value in VALUES.items()}
    assert len(set(digests.values())) == len(VALUES), [
        (one, other) for one in digests for other in digests if one < other and digests[one] == digests[other]
    ]


#: The class that torch makes for a parametrized module holds the first one of it, and no pickle holds that.
COMPARED = [name for name in VALUES if not name.startswith("parametrized")]


@pytest.mark.parametrize("name", COMPARED)
def test_a_copy_has_the_same_digest(name):
    value = VALUES[name]
    if isinstance(value, nn.Module):
        copied = clone(CoTeachingClassifier(value)).module
    else:
        copied = copy.deepcopy(value)
    assert digest(copied) == digest(value)


EQUAL = {
    "NumPy's numbers and Python's": (np.float64(0.5), 0.5),
    "NumPy's float32 and Python's": (np.float32(0.5), 0.5),
    "NumPy's bool": (np.True_, True),
    "NumPy's string": (np.str_("a"), "a"),
    "Fortran's order": (of_eight(), np.asfortranarray(of_eight())),
    "a view": (of_eight(), np.repeat(of_eight(), 2, axis=1)[:, ::2]),
    "a tensor": (of_eight(), torch.from_numpy(of_eight())),
    "a tensor of other strides": (of_eight(), torch.from_numpy(of_eight()).T.contiguous().T),
    "a tensor that needs gradients": (of_eight(), torch.from_numpy(of_eight()).requires_grad_()),
    "a read-only array": (of_eight(), np.broadcast_to(of_eight(), (2, 4))),
    "sparse formats": (sparse.csr_array(np.eye(3)), sparse.csc_matrix(np.eye(3))),
    "sets": ({1, 2, "a"}, {"a", 2, 1}),
    "closures over equal values": (adder([1.0]), adder([1.0])),
    "factories": (factory(np.int64(32)), factory(32)),
    "modules of equal weights": (network(), network()),
    "eval mode": (network(), network().eval()),
    "classes made anew": (scaled(2), scaled(2)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_what_trains_alike_has_the_same_digest(name):
    one, other = EQUAL[name]
    assert digest(one) == digest(other)


def test_a_memory_map_is_its_numbers(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 7))
    np.save(tmp_path / "X.npy", X)
    assert digest(np.load(tmp_path / "X.npy", mmap_mode="r")) == digest(X)


def test_large_arrays_are_digested_in_blocks(monkeypatch):
    X = np.random.default_rng(0).normal(size=(50, 7))
    whole = digest(X), digest(torch.from_numpy(X))
    monkeypatch.setattr("skcoteach._digest.BLOCK", 100)
    assert (digest(X), digest(torch.from_numpy(X))) == whole


def test_what_is_in_it_often_is_looked_at_once():
    shared = [1]
    for _ in range(200):
        shared = [shared, shared]
    holders = [Holder(None) for _ in range(20)]
    for each in holders:
        each.inside = holders
    assert digest(shared) != digest(holders)
    peer = Holder(set())
    peer.inside.add(peer)
    assert digest(peer) == digest(copy.deepcopy(peer))


def test_parameters_may_share_what_clones_do_not():
    one, other = Digest(), Digest()
    shared = [1]
    for each in (shared, shared):
        one.add(each, "it")
        other.add(copy.copy(each), "it")
    assert one.hexdigest() == other.hexdigest()


def test_what_holds_itself_has_a_digest():
    ring = [1]
    ring.append(ring)
    longer = [1, [1]]
    longer[1].append(longer)
    assert digest(ring) != digest(longer)


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inside: (
    st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3) | st.tuples(inside, inside)
)))  # fmt: skip
def test_plain_values_and_their_copies(value):
    assert digest(value) == digest(copy.deepcopy(value)) != digest([value])


# --- other processes -------------------------------------------------------------------------------------------------


def test_equal_in_a_worker_of_loky():
    # functions and classes of here are carried over by value, arrays as memory maps
    found = Parallel(n_jobs=2, max_nbytes=10)(delayed(digest)(VALUES[name]) for name in COMPARED)
    assert dict(zip(COMPARED, found)) == {name: digest(VALUES[name]) for name in COMPARED}


# --- what has none ---------------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, inside):
        self.inside = inside


class HolderModule(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.layers = [nn.Identity(), {"key": inside}]


def iterator():
    yield 1


def linked(length):
    chain = Holder(None)
    for _ in range(length):
        chain = Holder(chain)
    return chain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (threading.Lock(), "it is or holds a _thread.lock"),
        (Holder(threading.Lock()), r"it\.inside is or holds a _thread.lock"),
        (HolderModule(threading.Lock()), r"it\.layers\[1\]\['key'\] is or holds a _thread.lock"),
        (adder(iterator()), "it's n is or holds a builtins.generator"),
        (functools.partial(with_default, power=sys.stdout), "it.*TextIO|it.*EncodedFile|it.*CaptureIO"),
        (adder(np.random.default_rng(0)), "it's n is or holds a numpy.random.*Generator"),
        (torch.empty(2, device="meta"), "it is or holds a torch.Tensor"),
        (torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged), "it is or holds a torch.*NestedTensor"),
        (np.frompyfunc(lambda x: x + 1, 1, 1), "it is or holds a numpy.ufunc"),
        (linked(5000), "it is or holds what cannot be looked at .RecursionError"),
        (pd.DataFrame({"a": [threading.Lock()]}), "_thread.lock"),
    ],
    ids=[
        "lock",
        "in an object",
        "in a module",
        "in a closure",
        "file",
        "generator",
        "tensor without numbers",
        "nested tensor",
        "ufunc",
        "deep",
        "in a frame",
    ],
)
def test_what_is_not_made_of_values_is_named(value, words):
    with pytest.raises(NoDigestError, match=words):
        digest(value)


def test_of_what_is_not_made_of_values_there_is_no_digest():
    assert digest_of(threading.Lock(), "lock") is None
    assert digest_of({"weight": torch.ones(2)}, "state") == digest({"weight": torch.ones(2)})
