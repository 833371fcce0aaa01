"""The two networks are made as the user asked, and two that cannot teach each other are refused before training."""

import copy
import functools
import threading
import warnings

import numpy as np
import pytest
import torch
from _training.builders import config_with, training_data
from torch import nn

from skcoteach._training.device import random_state
from skcoteach._training.distributed import ALONE
from skcoteach._training.module_factory import check_networks, make_networks, reads_indices, standardize
from skcoteach.networks import MLP, CifarCNN, SmallCNN

pytestmark = pytest.mark.filterwarnings("error")


def make(module=None, module2=None, given=None, given2=None, item_shape=(4,), n_classes=3, **parameters):
    config = config_with(
        module=module, module2=module2, module_options=given or {}, module2_options=given2 or {}, **parameters
    )
    return make_networks(config, item_shape, n_classes)


def check(first, second, X=None, n_classes=3, as_indices=False):
    X = np.random.default_rng(0).normal(size=(5, 4)) if X is None else X
    labels = {"y": np.arange(len(X)) % n_classes, "classes": np.arange(n_classes)}
    data = training_data(X, **labels, as_indices=as_indices)
    with random_state(data.device, (0,)):
        check_networks((first, second), data)


class Recording:
    """A callable that makes networks and remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def made(self, **arguments):
        self.calls.append(arguments)
        return nn.Linear(4, 3)


class AllSizes(Recording):
    def __call__(self, n_features, n_channels, n_classes):
        return self.made(n_features=n_features, n_channels=n_channels, n_classes=n_classes)


class ClassesOnly(Recording):
    def __call__(self, width=7, *, n_classes):
        return self.made(width=width, n_classes=n_classes)


class AnyName(Recording):
    def __call__(self, width=7, **others):
        return self.made(width=width, **others)


class Nothing(Recording):
    def __call__(self):
        return self.made()


# --- what a module is called with ------------------------------------------------------------------------------------


def test_sizes_are_given_where_the_signature_names_them():
    module = AllSizes()
    make(module, item_shape=(2, 5, 6))
    assert module.calls == [{"n_features": 60, "n_channels": 2, "n_classes": 3}] * 2


def test_sizes_are_not_given_where_the_signature_does_not_name_them():
    module = ClassesOnly()
    make(module)
    assert module.calls == [{"width": 7, "n_classes": 3}] * 2
    module = Nothing()
    make(module)
    assert module.calls == [{}] * 2


def test_a_catch_all_receives_what_the_user_gave_and_nothing_by_itself():
    module = AnyName()
    make(module, given={"depth": 2}, given2={"depth": 3})
    assert module.calls == [{"width": 7, "depth": 2}, {"width": 7, "depth": 3}]


def test_explicit_values_win_over_the_sizes():
    module = AllSizes()
    make(module, given={"n_features": 9, "n_channels": 8, "n_classes": 7})
    assert module.calls == [{"n_features": 9, "n_channels": 8, "n_classes": 7}] * 2


@pytest.mark.parametrize("kind", ["class", "function", "partial"])
def test_classes_functions_and_partials_make_networks(kind):
    def function(n_features, n_classes):
        return MLP(n_features, n_classes, hidden=5)

    module = {"class": MLP, "function": function, "partial": functools.partial(MLP, hidden=5)}[kind]
    first, second = make(module)
    assert first is not second
    assert first(torch.zeros(2, 4)).shape == (2, 3)
    assert first[1].out_features == second[1].out_features == (128 if kind == "class" else 5)


def test_channels_are_the_first_axis_of_examples_that_have_more_than_one():
    for item_shape in [(4, 5), (4, 5, 6), (4, 2, 3, 5)]:
        module = AllSizes()
        make(module, item_shape=item_shape)
        assert [call["n_channels"] for call in module.calls] == [4, 4]
    with pytest.raises(ValueError, match="needs n_channels: give module__n_channels"):
        make(AllSizes(), item_shape=(4,))


def test_required_arguments_that_nobody_gave_are_named_as_the_user_would_give_them():
    with pytest.raises(ValueError, match="Linear needs out_features: give module__out_features"):
        make(nn.Linear, given={"in_features": 4})
    with pytest.raises(ValueError, match="Linear needs in_features, out_features: give module2__in_features, module2"):
        make(None, nn.Linear)


def test_what_makes_no_network_is_refused():
    with pytest.raises(TypeError, match="module=dict made a dict; a torch.nn.Module is expected"):
        make(dict)
    with pytest.raises(TypeError, match="module2=list made a list; a torch.nn.Module is expected"):
        make(None, list)


def test_what_the_users_module_raises_passes_unchanged():
    error = RuntimeError("mine")

    def broken():
        raise error

    with pytest.raises(RuntimeError) as raised:
        make(broken)
    assert raised.value is error


def test_networks_are_on_the_device_and_in_the_precision_of_the_training():
    for module, module2 in [(None, None), (nn.LazyLinear(3), nn.LazyLinear(3)), (MLP, nn.Linear(4, 3))]:
        for network in make(module, module2, device=torch.device("meta"), dtype=torch.float64):
            tensors = [each for each in (*network.parameters(), *network.buffers()) if each.dtype.is_floating_point]
            assert {(each.device.type, each.dtype) for each in tensors} == {("meta", torch.float64)}


def test_networks_start_from_different_weights():
    first, second = make()
    assert not torch.equal(first[1].weight, second[1].weight)


# --- module2 ---------------------------------------------------------------------------------------------------------


def test_the_peer_is_made_like_the_first_with_its_own_values_over_those_of_the_first():
    module = AnyName()
    make(module, given={"a": 1, "b": 2}, given2={"b": 3, "c": 4})
    assert module.calls == [{"width": 7, "a": 1, "b": 2}, {"width": 7, "a": 1, "b": 3, "c": 4}]


def test_a_peer_of_its_own_kind_gets_its_own_values_only():
    first, second = AnyName(), AnyName()
    make(first, second, given={"a": 1}, given2={"b": 2})
    assert (first.calls, second.calls) == ([{"width": 7, "a": 1}], [{"width": 7, "b": 2}])


def test_a_peer_of_its_own_kind_gets_the_sizes_too():
    second = ClassesOnly()
    make(None, second, given2={"width": 9})
    assert second.calls == [{"width": 9, "n_classes": 3}]


def test_the_default_may_have_a_peer_of_another_width():
    first, second = make(given={"hidden": 6}, given2={"hidden": [3, 2]})
    assert [layer.out_features for layer in first if isinstance(layer, nn.Linear)] == [6, 3]
    assert [layer.out_features for layer in second if isinstance(layer, nn.Linear)] == [3, 2, 3]


# --- the default -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("item_shape", "kind"), [((4,), MLP), ((1, 8, 8), SmallCNN), ((3, 9, 12), SmallCNN)])
def test_the_default_follows_the_axes_and_sizes_of_x(item_shape, kind):
    first, second = make(item_shape=item_shape, n_classes=5)
    assert type(first) is type(second) is kind
    assert first(torch.zeros(2, *item_shape)).shape == second(torch.zeros(2, *item_shape)).shape == (2, 5)


@pytest.mark.parametrize("item_shape", [(8, 8), (1, 8, 8, 8)])
def test_other_numbers_of_axes_need_a_module(item_shape):
    with pytest.raises(ValueError, match=rf"module=None makes.*X has {len(item_shape) + 1} axes.*X\[:, None\]"):
        make(item_shape=item_shape)


# --- names that nobody takes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "module2", "given", "given2", "message"),
    [
        (
            None,
            None,
            {"hiden": 3},
            {},
            r"MLP does not take hiden \(given as module__hiden\).*n_features, n_classes, hi",
        ),
        (None, None, {}, {"hiden": 3}, r"MLP does not take hiden \(given as module2__hiden\)"),
        (MLP, None, {"a": 1}, {"b": 2}, r"MLP does not take a \(given as module__a\)"),
        (MLP, None, {"hidden": 1}, {"hidden": 2, "b": 2}, r"MLP does not take b \(given as module2__b\)"),
        (MLP, nn.Linear, {}, {"hidden": 3}, r"Linear does not take hidden \(given as module2__hidden\)"),
        (MLP, None, {"a": 1, "b": 2}, {}, r"does not take a, b \(given as module__a, module__b\)"),
        (lambda: None, None, {"a": 1}, {}, r"does not take a .*It takes: nothing\."),
        (
            nn.Linear(4, 3),
            nn.Linear(4, 3),
            {},
            {"bias": False},
            "module2__bias cannot be passed on: module2 is an instance of Linear",
        ),
        (
            nn.Linear(4, 3),
            nn.Linear(4, 3),
            {"bias": 0},
            {},
            "module__bias cannot be passed on: module is an instance of Linear",
        ),
    ],
)
def test_unknown_names_are_refused_and_named_as_the_user_wrote_them(module, module2, given, given2, message):
    with pytest.raises(ValueError, match=message):
        make(module, module2, given, given2)


# --- instances -------------------------------------------------------------------------------------------------------


def test_instances_are_copied_and_start_with_their_weights():
    modules = nn.Linear(4, 3), nn.Linear(4, 3)
    before = [module.weight.clone() for module in modules]
    networks = make(*modules)
    for module, network, weight in zip(modules, networks, before, strict=True):
        assert network is not module
        assert torch.equal(network.weight, weight)
        network.weight.data += 1
        assert torch.equal(module.weight, weight)


def test_checking_does_not_change_an_instance():
    modules = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), nn.Linear(4, 3)
    before = {name: tensor.clone() for name, tensor in modules[0].state_dict().items()}
    check(*make(*modules))
    assert all(torch.equal(tensor, before[name]) for name, tensor in modules[0].state_dict().items())
    assert modules[0].training


def test_an_instance_that_holds_what_its_last_forward_has_computed_is_copied_and_stays_as_it_was():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        modules = nn.utils.spectral_norm(nn.Linear(4, 3)), nn.utils.spectral_norm(nn.Linear(4, 3))
    modules[0](torch.zeros(2, 4))  # leaves a weight that hangs on a graph
    before = modules[0].weight
    networks = make(*modules)
    check(*networks)
    assert modules[0].weight is before and not before.is_leaf
    assert torch.equal(networks[0].weight_orig, modules[0].weight_orig)


def test_scripted_instances_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against scripting
        scripted = torch.jit.script(nn.Linear(4, 3))
    message = "module2 is a scripted module or has one in it.*as it was before torch.jit, and compile=True"
    for module2 in (scripted, lambda: scripted, lambda: nn.Sequential(scripted)):
        with pytest.raises(ValueError, match=message):
            make(lambda: nn.Linear(4, 3), module2)


@pytest.mark.parametrize("module2", [None, MLP])
def test_an_instance_needs_a_peer_that_is_one_too(module2):
    with pytest.raises(ValueError, match="module is an instance of Linear, so module2 must be an instance too"):
        make(nn.Linear(4, 3), module2)


def test_a_peer_may_be_an_instance_where_the_first_is_made():
    module2 = nn.Linear(4, 3)
    first, second = make(None, module2)
    assert isinstance(first, MLP)
    assert torch.equal(second.weight, module2.weight)


# --- networks that can never disagree --------------------------------------------------------------------------------


def test_the_same_instance_twice_is_refused():
    module = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="share parameters, so they can never disagree"):
        make(module, module)
    with pytest.raises(ValueError, match="start with equal weights, so they can never disagree"):
        check(*make(module, copy.deepcopy(module)))


def test_a_module_that_seeds_itself_is_refused():
    def seeded(n_features, n_classes):
        torch.manual_seed(0)
        return MLP(n_features, n_classes)

    with pytest.raises(ValueError, match="equal weights.*Remove a fixed seed from the module, or give module2 weights"):
        check(*make(seeded))
    check(*make(seeded, MLP))


def test_shared_parameters_are_refused_be_it_one_of_many():
    shared = nn.Linear(4, 4)

    def module():
        return nn.Sequential(shared, nn.Linear(4, 3))

    with pytest.raises(ValueError, match="share parameters, so they can never disagree"):
        check(*make(module))
    one = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="share parameters"):
        check(*make(lambda: one))


def test_what_is_frozen_and_buffers_may_be_shared_and_every_network_has_its_own():
    backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).requires_grad_(False)
    networks = make(lambda: nn.Sequential(backbone, nn.Linear(4, 3)))
    check(*networks)
    mine, its, theirs = (dict(each.state_dict()) for each in (*(network[0] for network in networks), backbone))
    for name, value in theirs.items():
        assert torch.equal(mine[name], value) and torch.equal(its[name], value)
        assert len({each.data_ptr() for each in (mine[name], its[name], value)}) == 3
    backbone[0].requires_grad_(True)
    with pytest.raises(ValueError, match=r"share parameters.*what they share has to be frozen \(requires_grad=False\)"):
        make(lambda: nn.Sequential(backbone, nn.Linear(4, 3)))


def test_equal_frozen_parts_are_no_equal_weights_and_equal_trained_parts_are():
    vectors = torch.randn(9, 3)
    check(*make(lambda: nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 3))))

    def module(seed=None):
        last = nn.Linear(4, 3)
        if seed is not None:
            nn.init.ones_(last.weight), nn.init.zeros_(last.bias)
        return nn.Sequential(Probe(vectors), last)

    check(*make(module))
    with pytest.raises(ValueError, match="start with equal weights"):
        check(*make(module, given={"seed": 0}))


class Probe(nn.Module):
    """Passes its inputs on; holds frozen vectors."""

    def __init__(self, vectors):
        super().__init__()
        self.vectors = nn.Embedding.from_pretrained(vectors)

    def forward(self, x):
        return x


def test_a_layer_given_as_a_value_is_neither_shared_nor_changed():
    norm = nn.BatchNorm1d(4, affine=False).double().eval()

    def module(norm, n_classes):
        return nn.Sequential(norm, nn.Linear(4, n_classes))

    networks = make(module, given={"norm": norm})
    assert networks[0][0] is not networks[1][0] is not norm
    networks[0].train()(torch.randn(5, 4))
    assert norm.running_mean.tolist() == [0] * 4 and norm.running_mean.dtype == torch.float64 and not norm.training
    assert networks[1][0].running_mean.tolist() == [0] * 4


def test_what_cannot_be_copied_is_told():
    class Locked(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.lock = threading.Lock()

    with pytest.raises(ValueError, match="network made by module, a Locked, cannot be copied.*outside of the module"):
        make(Locked)


@pytest.mark.parametrize("tied", [False, True])
def test_instances_that_share_a_layer_are_refused_though_the_copies_would_not(tied):
    shared = nn.Linear(4, 4)
    layers = [copy.deepcopy(shared) if tied else shared for _ in range(2)]
    if tied:  # other parameters on the same numbers
        layers[1].weight.data = layers[0].weight.data
    with pytest.raises(ValueError, match="share parameters, so they can never disagree"):
        make(*(nn.Sequential(layer, nn.Linear(4, 3)) for layer in layers))


def test_lazy_instances_share_nothing():
    check(*make(nn.LazyLinear(3), nn.LazyLinear(3)))


def test_networks_that_differ_in_one_number_or_in_shape_are_accepted():
    first, second = make(nn.Linear, given={"in_features": 4, "out_features": 3})
    second.load_state_dict(first.state_dict())
    second.bias.data[0] += 1
    check(first, second)
    check(*make(given2={"hidden": 3}))


# --- lazy layers -----------------------------------------------------------------------------------------------------


def test_lazy_layers_get_their_shapes():
    def module(n_classes):
        return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, n_classes))

    first, second = make(module)
    check(first, second)
    assert first[0].weight.shape == second[0].weight.shape == (5, 4)


def test_lazy_layers_of_the_two_networks_get_different_weights():
    def module(n_classes):
        return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(n_classes))

    first, second = make(module)
    check(first, second)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert not torch.equal(a, b)


# --- what networks return --------------------------------------------------------------------------------------------


class Returning(nn.Module):
    """A network that returns what it is told to make of its logits."""

    def __init__(self, convert):
        super().__init__()
        self.linear, self.convert = nn.Linear(4, 3), convert

    def forward(self, x):
        return self.convert(self.linear(x))


@pytest.mark.parametrize(
    ("convert", "shape"),
    [
        (lambda x: x[:, 0], r"\(2,\)"),
        (lambda x: x[:, :1], r"\(2, 1\)"),
        (lambda x: x[:, :, None], r"\(2, 3, 1\)"),
        (lambda x: x.T, r"\(3, 2\)"),
        (lambda x: x.mean(), r"\(\)"),
        (lambda x: torch.cat([x, x], 1), r"\(2, 6\)"),
    ],
)
def test_outputs_of_another_shape_are_refused_with_both_shapes(convert, shape):
    message = r"made by {} must return raw logits of shape \(n_samples, n_classes\), here \(2, 3\).*got shape " + shape
    with pytest.raises(ValueError, match=message.format("module")):
        check(Returning(convert), Returning(torch.Tensor.clone))
    with pytest.raises(ValueError, match=message.format("module2")):
        check(Returning(torch.Tensor.clone), Returning(convert))


@pytest.mark.parametrize(("convert", "kind"), [(lambda x: (x, x), "tuple"), (lambda x: {"x": x}, "dict")])
def test_outputs_that_are_no_tensors_are_refused(convert, kind):
    with pytest.raises(TypeError, match=f"made by module must return a tensor of raw logits; it returned a {kind}"):
        check(Returning(convert), nn.Linear(4, 3))


@pytest.mark.parametrize("convert", [lambda x: x.argmax(1, keepdim=True).expand(-1, 3), lambda x: x > 0])
def test_outputs_that_are_no_floating_point_numbers_are_refused(convert):
    with pytest.raises(TypeError, match=r"must return floating point logits; got torch\.(int64|bool)"):
        check(Returning(convert), nn.Linear(4, 3))


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.Softmax(-1)])
def test_a_softmax_at_the_end_gets_a_warning(end):
    with pytest.warns(UserWarning, match="made by module2 look like probabilities.*remove the Softmax"):
        check(nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), end))


@pytest.mark.parametrize("end", [nn.Identity(), nn.LogSoftmax(1), nn.Sigmoid(), nn.ReLU()])
def test_other_outputs_get_none(end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), end))


def test_networks_with_nothing_to_train_are_refused():
    with pytest.raises(ValueError, match="made by module has no parameters that can be trained"):
        check(nn.Identity(), nn.Linear(4, 4), n_classes=4)
    with pytest.raises(ValueError, match="made by module2 has no parameters that can be trained"):
        check(nn.Linear(4, 3), nn.Linear(4, 3).requires_grad_(False))


def test_part_of_a_network_may_be_frozen():
    check(*(nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 3)) for _ in range(2)))


def test_two_rows_of_an_example_are_enough_and_networks_with_dropout_and_batch_statistics_are_checked_as_in_predict():
    def module():
        return nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))

    first, second = make(module)
    check(first, second, X=np.ones((1, 4)))
    assert first[0].num_batches_tracked == 0


# --- who complains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "X", "seen_as"),
    [
        (lambda: nn.Linear(5, 3), np.ones((5, 4)), r"shape \(2, 4\) and dtype torch.float32"),
        (lambda: nn.Conv2d(1, 3, 3), np.ones((5, 2, 8, 8), np.uint8), r"shape \(2, 2, 8, 8\) and dtype torch.float32"),
        (lambda: nn.Embedding(4, 3), np.full((5, 1), 9), r"shape \(2, 1\) and dtype torch.int64"),
        (lambda: nn.Embedding(4, 3), np.ones((5, 1)), r"shape \(2, 1\) and dtype torch.float32"),
        (lambda: nn.LSTM(7, 3), np.ones((5, 2, 4)), r"shape \(2, 2, 4\) and dtype torch.float32"),
    ],
    ids=["Linear", "Conv2d", "Embedding", "Embedding of floats", "LSTM"],
)
def test_data_that_torch_cannot_take_is_told_in_the_users_words(network, X, seen_as):
    first, second = network(), network()
    with pytest.raises(ValueError, match=f"{type(first).__name__} cannot take a batch of X with {seen_as}: ") as raised:
        check(first, second, X=X, as_indices=reads_indices(first))
    assert raised.value.__cause__ is not None


def test_a_wrong_number_of_features_for_the_default_is_told_in_the_users_words():
    with pytest.raises(ValueError, match=r"MLP cannot take a batch of X with shape \(2, 4\)"):
        check(*make(given={"n_features": 3}))


def test_a_wrong_number_of_channels_for_the_default_is_told_in_the_users_words():
    networks = make(given={"n_channels": 3}, item_shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"SmallCNN cannot take a batch of X with shape \(2, 1, 8, 8\)"):
        check(*networks, X=np.ones((5, 1, 8, 8)))


def test_images_too_small_for_the_default_are_told_in_the_users_words():
    with pytest.raises(ValueError, match="SmallCNN takes images of at least 8x8 pixels, got 7x8"):
        check(*make(item_shape=(1, 7, 8)), X=np.ones((5, 1, 7, 8)))


@pytest.mark.parametrize("error", [RuntimeError("mine"), IndexError("mine"), KeyError("mine"), ValueError("mine")])
def test_what_the_users_network_raises_passes_unchanged(error):
    def raise_it(logits):
        raise error

    with pytest.raises(type(error)) as raised:
        check(Returning(raise_it), nn.Linear(4, 3))
    assert raised.value is error


def test_what_the_users_dataset_raises_passes_unchanged():
    error = IndexError("mine")

    class Broken(torch.utils.data.Dataset):
        asked = 0

        def __len__(self):
            return 5

        def __getitem__(self, position):
            self.asked += 1
            if self.asked > 1:  # the first is asked for its shape
                raise error
            return torch.zeros(4)

    with pytest.raises(IndexError) as raised:
        check(nn.Linear(4, 3), nn.Linear(4, 3), X=Broken())
    assert raised.value is error


# --- embeddings ------------------------------------------------------------------------------------------------------


class Declared(nn.Module):
    """Layers as attributes, in the order given."""

    def __init__(self, *layers):
        super().__init__()
        for number, layer in enumerate(layers):
            setattr(self, f"layer{number}", layer)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Embedding(5, 3), True),
        (nn.EmbeddingBag(5, 3), True),
        (nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 3)), True),
        (nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Identity(), nn.Embedding(5, 3)), nn.Linear(3, 3)), True),
        (Declared(Declared(nn.Embedding(5, 3)), nn.Linear(3, 3)), True),
        (nn.Linear(4, 3), False),
        (nn.Sequential(nn.Linear(4, 3), nn.Embedding(5, 3)), False),
        (Declared(nn.Linear(4, 3), nn.Embedding(5, 3)), False),
        (nn.Sequential(nn.LazyLinear(3)), False),
        (nn.Identity(), False),
    ],
    ids=str,
)
def test_integers_are_indices_where_the_first_layer_with_parameters_is_an_embedding(network, expected):
    assert reads_indices(network) == expected


@pytest.mark.parametrize("item_shape", [(64,), (28, 28), (2, 3, 28, 28)])
@pytest.mark.parametrize("pair", [(SmallCNN, None), (CifarCNN, None), (MLP, SmallCNN)], ids=str)
def test_networks_for_images_say_what_x_they_take(pair, item_shape):
    with pytest.raises(ValueError, match=r"CNN takes images, X of shape .*; the items of X have shape .*X\[:, None\]"):
        make(*pair, item_shape=item_shape)


def test_standardisation_of_a_part_of_the_data_is_that_of_the_part():
    X, y = np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 3
    networks = make(dtype=torch.float64)
    standardize(networks, training_data(X, y, dtype=torch.float64).part(torch.arange(90) % 2 == 0), ALONE)
    assert networks[0][0].mean.tolist() == pytest.approx(X[::2].mean(axis=0), rel=1e-12)
