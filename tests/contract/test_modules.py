"""Networks: what may make them, where they start, what they may do."""

import copy
import random
import warnings

import numpy as np
import pytest
import torch
from helpers import (
    Net,
    StopAfter,
    Words,
    assert_same_findings,
    assert_same_weights,
    auto,
    fast,
    global_random_states,
    images,
    words,
)
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skcoteach.networks import MLP, SmallCNN

pytestmark = pytest.mark.filterwarnings("error")


def test_default_networks_follow_the_axes_of_x(table):
    assert all(isinstance(module, MLP) for module in fast(epochs=1).fit(*table).modules_)
    assert all(isinstance(module, SmallCNN) for module in fast(epochs=1).fit(*images()).modules_)


def test_three_axes_need_a_module_and_work_with_one():
    X, y = images()
    X = X[:, 0]
    with pytest.raises(ValueError, match="module=None makes a network for X of shape"):
        fast().fit(X, y)
    estimator = fast(module=lambda n_features, n_classes: nn.Sequential(nn.Flatten(), nn.Linear(n_features, n_classes)))
    assert estimator.fit(X, y).predict_proba(X).shape == (60, 2)


def test_an_instance_is_where_the_first_network_starts_and_is_never_changed(table):
    X, y = table
    first, second = Net(8, 3), Net(8, 3)
    before = [parameter.clone() for parameter in first.parameters()]
    estimator = fast(module=first, module2=second, lr=1e-12, epochs=1).fit(X, y)
    for old, now, fitted in zip(before, first.parameters(), estimator.modules_[0].parameters(), strict=True):
        assert torch.equal(old, now)
        assert_allclose(old.detach(), fitted.detach(), atol=1e-6)
    assert estimator.modules_[0] is not first
    with pytest.raises(ValueError, match="module2 must be an instance too"):
        fast(module=first).fit(X, y)


def test_networks_that_can_never_disagree_are_refused(table):
    X, y = table
    shared, other = Net(8, 3), Net(8, 3)
    other.layers[0] = shared.layers[0]
    for together in (
        {"module": lambda: shared},
        {"module": shared, "module2": other},
        {"module": shared, "module2": copy.deepcopy(shared)},
    ):
        with pytest.raises(ValueError, match="share parameters|equal weights"):
            fast(**together).fit(X, y)


def test_module2_is_made_like_the_first_unless_told_otherwise(table):
    X, y = table
    estimator = fast(module=Net, module__hidden=6, module2__hidden=9).fit(X, y)
    assert [module.layers[0].out_features for module in estimator.modules_] == [6, 9]
    estimator = fast(module=Net, module2=MLP, module__hidden=6, module2__hidden=(5,)).fit(X, y)
    assert isinstance(estimator.modules_[1], MLP)


def test_lazy_layers_start_with_different_weights(table):
    estimator = fast(module=lambda n_classes: nn.LazyLinear(n_classes), epochs=1, lr=1e-12).fit(*table)
    first, second = estimator.modules_
    assert not torch.allclose(first.weight, second.weight)


def test_lazy_layers_are_made_for_the_estimate_too(noisy):
    X, given, true = noisy
    estimator = auto(module=lambda n_classes: nn.LazyLinear(n_classes), lr=0.1).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.05)


def test_networks_that_work_in_place_do_not_disturb_the_other(table):
    X, y = table

    def network(inplace):
        return lambda n_features, n_classes: nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(n_features, n_classes))

    in_place, copying = (fast(module=network(inplace)).fit(X, y) for inplace in (True, False))
    assert_array_equal(in_place.predict_proba(X), copying.predict_proba(X))


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_networks_whose_weights_are_computed_anew_by_every_forward_go_on(norm, table):
    X, y = table

    def module():
        return nn.Sequential(norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        instances = module(), module()
        instances[0](torch.from_numpy(X.copy()))  # leaves a weight that hangs on a graph
        watched = fast(module=module).set_callbacks(StopAfter(2)).fit(X, y)
        assert_array_equal(copy.deepcopy(watched).predict_proba(X), watched.predict_proba(X))
        parts = fast(module=module).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
        fitted = fast(module=instances[0], module2=instances[1]).fit(X, y)
    assert watched.n_iter_ == parts.n_iter_ == 2 and fitted.n_iter_ == 4


def test_scripted_instances_are_refused(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against scripting
        scripted = [torch.jit.script(Net(8, 3)) for _ in range(2)]
    with pytest.raises(ValueError, match="module is a scripted module.*compile=True"):
        fast(module=scripted[0], module2=scripted[1]).fit(*table)


def test_an_index_that_the_embedding_does_not_have_is_told_wherever_it_stands():
    X, y = words(60)
    X[-1, 0] = 99
    with pytest.raises(ValueError, match=r"Words cannot take a batch of X with shape \(60, 6\).*int64: index out of"):
        fast(module=Words).fit(X, y)
    estimator = fast(module=Words).fit(X[:-1], y[:-1])
    with pytest.raises(ValueError, match="Words cannot take a batch of X .* index out of range"):
        estimator.predict(X)


class ShortWhileTraining(Net):
    def forward(self, x):
        outputs = super().forward(x)
        return outputs[:-1] if self.training else outputs


class DetachedWhileTraining(Net):
    def forward(self, x):
        outputs = super().forward(x)
        return outputs.detach() if self.training else outputs


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (ShortWhileTraining, r"\(64, 3\).*got shape \(63, 3\)"),
        (DetachedWhileTraining, "do not depend on its parameters"),
    ],
)
def test_what_goes_wrong_only_in_training_is_told_too(module, words, table):
    with pytest.raises(ValueError, match=words):
        fast(module=module).fit(*table)


class KeepsState(nn.Module):
    """A GRU that goes on from where its last call has ended, and does not detach it."""

    def __init__(self, n_classes):
        super().__init__()
        self.gru, self.last, self.hidden = nn.GRU(8, 5, batch_first=True), nn.Linear(5, n_classes), None

    def forward(self, x):
        hidden = self.hidden if self.hidden is None or self.hidden.shape[1] == len(x) else None
        outputs, self.hidden = self.gru(x[:, None], hidden)
        return self.last(outputs[:, 0])


class ChangesInPlace(Net):
    def forward(self, x):
        outputs = super().forward(x).sigmoid()
        outputs.mul_(2)
        return outputs


class MakesSparse(Net):
    def forward(self, x):
        return super().forward(x).to_sparse()


class MakesMeta(Net):
    def forward(self, x):
        return super().forward(x).to("meta")


class UnusedLazy(Net):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.spare = nn.LazyLinear(3)


class NormalisesBatches(Net):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.layers.insert(0, nn.BatchNorm1d(n_features))


@pytest.mark.parametrize(
    ("module", "words", "more"),
    [
        (KeepsState, "gradients of KeepsState or of its peer cannot be computed.*unless it is detached", {}),
        (ChangesInPlace, "gradients of ChangesInPlace .*must not change in place", {}),
        (MakesSparse, "must return dense logits; got layout torch.sparse_coo", {}),
        (MakesMeta, "returns logits on meta for examples on cpu", {}),
        (UnusedLazy, "lazy layers that its forward does not use.*spare.weight, spare.bias", {}),
        (NormalisesBatches, r"NormalisesBatches cannot take a batch of X with shape \(1, 8\)", {"batch_size": 1}),
        (lambda n_features, n_classes: nn.Sequential(Net(n_features, n_classes), nn.Bilinear(3, 3, 3)),
         "Sequential cannot take a batch of X.*missing 1 required positional argument", {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_torch_cannot_train_is_told_in_the_users_words(module, words, more, table):
    with pytest.raises((ValueError, TypeError), match=words):
        fast(module=module, **more).fit(*table)


def test_what_torch_raises_in_augment_names_it_and_what_it_raises_itself_passes(table):
    with pytest.raises(ValueError, match=r"augment cannot take a batch of X with shape \(64, 8\) .*: "):
        fast(augment=nn.Conv2d(1, 1, 3)).fit(*table)

    def mine(batch):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="^mine$"):
        fast(augment=mine).fit(*table)


def test_activations_kept_in_containers_neither_break_callbacks_nor_copies(table):
    class Keeping(Net):
        def __init__(self, n_features, n_classes):
            super().__init__(n_features, n_classes)
            self.kept = {"all": []}

        def forward(self, x):
            self.kept["all"] = [super().forward(x)]
            return self.kept["all"][0] * 1

    X, y = table
    watched = fast(module=Keeping).set_callbacks(StopAfter(2)).fit(X, y)
    assert_array_equal(copy.deepcopy(watched).predict_proba(X), watched.predict_proba(X))
    assert watched.partial_fit(X, y).n_iter_ == 3


def test_a_layer_given_as_a_value_is_of_each_network_alone(table):
    X, y = table
    norm = nn.BatchNorm1d(8, affine=False)

    def module(norm, n_features, n_classes):
        return nn.Sequential(norm, nn.Linear(n_features, n_classes))

    first = fast(module=module, module__norm=norm).fit(X, y)
    expected = first.predict_proba(X)
    second = fast(module=module, module__norm=norm).fit(X[::-1].copy() * 3, y)
    assert_array_equal(first.predict_proba(X), expected)
    assert_same_weights(fast(module=module, module__norm=norm).fit(X, y), first)
    assert not torch.equal(second.modules_[0][0].running_var, first.modules_[0][0].running_var)
    assert norm.running_mean.tolist() == [0] * 8 and norm.training


def test_frozen_vectors_may_be_shared():
    X, y = words(60)
    vectors = torch.randn(50, 4)

    def module(n_classes):
        return nn.Sequential(nn.Embedding.from_pretrained(vectors), nn.Flatten(), nn.Linear(24, n_classes))

    estimator = fast(module=module).fit(X, y)
    assert all(torch.equal(each[0].weight, vectors) for each in estimator.modules_)


class WideLogits(Net):
    def forward(self, x):
        return super().forward(x).double()


def test_logits_of_double_precision_are_taken_in_single_precision(noisy):
    X, given, true = noisy
    estimator = auto(module=WideLogits, lr=0.02, precision="float32").fit(X, given)
    assert estimator.modules_[0].layers[0].weight.dtype == torch.float32
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.05)
    assert np.isfinite(estimator.label_quality_).all() and estimator.label_quality_.dtype == np.float64


class RandomAfterTraining(Net):
    """Draws from all three global generators in every call, in eval mode, too."""

    def forward(self, x):
        jitter = torch.randn(x.shape, device=x.device) + np.random.standard_normal() + random.gauss(0, 1)
        return super().forward(x + 0.1 * jitter)


def test_a_module_that_draws_in_eval_mode_leaves_the_global_states_and_gives_the_same_bits(noisy):
    X, given, _ = noisy
    fits = []
    for drawn in (0, 5):
        torch.rand(drawn), np.random.rand(drawn), [random.random() for _ in range(drawn)]
        before = global_random_states()
        fits.append(auto(module=RandomAfterTraining, num_iter_per_epoch=1).fit(X, given))  # most rows are never seen
        assert global_random_states() == before
    assert_same_findings(*fits)
    assert_same_weights(*fits)
    assert_array_equal(fits[0].kept_frequency_, fits[1].kept_frequency_)


def test_compiled_training_is_asked_for_both_networks_and_gives_the_same(table, monkeypatch):
    X, y = table
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    estimator = fast(compile=True, precision="float64").fit(X, y)
    assert compiled == list(estimator.modules_)
    expected = fast(compile=False, precision="float64").fit(X, y)
    assert len(compiled) == 2
    assert_allclose(estimator.predict_proba(X), expected.predict_proba(X), atol=1e-9)
