"""What users plug in: optimizers and augmentations."""

import pytest
import torch
from helpers import Net, fast, images
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"optimizer": torch.optim.SparseAdam}, "optimizer=SparseAdam cannot train these networks.*dense gradients"),
        ({"optimizer__differentiable": True}, "optimizer=Adam cannot train these networks with its options"),
        ({"optimizer__capturable": True}, "optimizer=Adam cannot train these networks with its options"),
        ({"optimizer__params": [1]}, "optimizer__params is not used"),
        ({"exponent": 1e-17}, r"exponent=1e-17 makes the warm-up end at a forget rate of 0.2 \*\* exponent = 1"),
    ],
)
def test_options_that_torch_or_arithmetic_refuse_late_are_told(parameters, words, table):
    with pytest.raises(ValueError, match=words):
        fast(**parameters).fit(*table)


def test_what_the_users_own_optimizer_raises_passes_unchanged(table):
    class Refusing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="^my own$"):
        fast(optimizer=Refusing).fit(*table)


def test_augment_gets_whole_batches_and_both_networks_see_its_result(table):
    shapes = []

    def augment(x):
        shapes.append(tuple(x.shape))
        return torch.zeros_like(x)

    estimator = fast(augment=augment, epochs=2).fit(*table)
    assert shapes == [(64, 8)] * 3 * 2
    # training saw nothing but zeros, so the inputs say nothing about the class
    assert max(estimator.history_[-1]["accuracy"]) < 0.5


def test_an_augmentation_may_change_the_size_if_the_networks_can_take_it():
    X, y = images()
    assert fast(augment=lambda x: nn.functional.pad(x, (2, 2)), epochs=40).fit(X, y).score(X, y) > 0.9


def chain(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 5), nn.ReLU(), nn.Linear(5, n_classes))


@pytest.mark.parametrize("module", [None, chain, Net], ids=["default", "chain", "own forward"])
@pytest.mark.parametrize(
    ("augment", "error", "words"),
    [
        (lambda x: None, TypeError, "augment must return a tensor.*NoneType"),
        (lambda x: x.double(), TypeError, "augment must return.*float64"),
        (lambda x: x[:5], ValueError, r"augment must return.*\(5, 8\)"),
        (lambda x: x[:, :5], ValueError, r"augment was given.*\(64, 8\) and returned.*\(64, 5\), which the networks c"),
    ],
    ids=["nothing", "dtype", "rows", "columns"],
)
def test_what_an_augmentation_must_not_return_is_told(augment, error, words, module, table):
    with pytest.raises(error, match=words):
        fast(augment=augment, module=module).fit(*table)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, OSError])
def test_what_the_users_own_augmentation_or_module_raises_passes_unchanged(error, table):
    def refusing(x):
        raise error("my own")

    class Refusing(Net):
        def forward(self, x):
            if self.training:
                raise error("my own")
            return super().forward(x)

    for parameters in ({"augment": refusing}, {"augment": lambda x: x[:, :5], "module": Refusing}):
        with pytest.raises(error, match="^my own$"):
            fast(**parameters).fit(*table)
