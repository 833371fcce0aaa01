"""The default networks: exact statistics, any shape from the smallest on, and the paper's CNN as documented."""

import copy
import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cleanlab.experimental.cifar_cnn import CNN as OriginalCNN
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import adaptive_max_pool2d, cross_entropy

from skcoteach.networks import MLP, CifarCNN, SmallCNN, Standardize

pytestmark = pytest.mark.filterwarnings("error")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def standardize(x, weights=None, batch_size=1000, layer=None):
    """A float64 layer that has observed ``x`` in batches."""
    layer = (layer or Standardize(x.shape[1])).double()
    weights = torch.ones(len(x)) if weights is None else weights
    for batch, batch_weights in zip(x.split(batch_size), weights.split(batch_size), strict=True):
        layer.observe(batch, batch_weights)
    return layer


def assert_same_statistics(a, b, tolerance=1e-12):
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.scale, b.scale, rtol=tolerance, atol=tolerance)


# --- Standardize -----------------------------------------------------------------------------------------------------


def test_unobserved_standardization_is_the_identity():
    layer, x = Standardize(3), random(5, 3).float()
    assert not layer.observed
    assert torch.equal(layer(x), x)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_statistics_are_the_weighted_ones_of_numpy_however_the_data_is_cut_into_batches(n, batch_size, seed):
    x, weights = 3 + random(n, 2, seed=seed), random(n, seed=seed + 1).abs()
    layer = standardize(x, weights, batch_size)
    mean = np.average(x.numpy(), axis=0, weights=weights)
    variance = np.average((x.numpy() - mean) ** 2, axis=0, weights=weights)
    assert layer.observed
    assert layer.mean.tolist() == pytest.approx(mean, rel=1e-11)
    assert layer.scale.tolist() == pytest.approx(np.sqrt(variance) if n > 1 else [1, 1], rel=1e-9)


def test_output_is_that_of_the_standard_scaler_of_scikit_learn_smoothly_clipped():
    X, _ = load_wine(return_X_y=True)
    weights = np.arange(len(X)) % 4
    z = StandardScaler().fit(X, sample_weight=weights).transform(X)
    layer = standardize(torch.tensor(X), torch.tensor(weights), batch_size=50)
    assert layer(torch.tensor(X)).numpy() == pytest.approx(z / np.sqrt(1 + (z / 3) ** 2), abs=1e-10)


def with_zeros(n, share, *, seed=0):
    """A column of which at most this share is not zero."""
    column = 5 + random(n, 1, seed=seed)
    column[round(share * n) :] = 0
    return column


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.005, 0.3), min_size=1, max_size=8), st.integers(1, 200), st.integers(0, 2**32))
def test_sparse_columns_stay_zero_and_are_scaled_by_what_is_not_zero(shares, batch_size, seed):
    x = torch.hstack([with_zeros(200, share, seed=seed + i) for i, share in enumerate(shares)])
    weights = random(200, seed=seed + 99).abs()
    layer = standardize(x, weights, batch_size)
    nonzero = (x != 0).double()
    of_nonzero = weights @ nonzero
    sparse = (of_nonzero > 0) & (of_nonzero <= 0.2 * weights.sum())
    assert layer.mean[sparse].tolist() == [0] * int(sparse.sum())
    in_a_row = float(of_nonzero[sparse].sum() / weights.sum())
    expected = (weights @ x**2 / of_nonzero).sqrt() * max(in_a_row, 1) ** 0.5
    torch.testing.assert_close(layer.scale[sparse], expected[sparse], rtol=1e-9, atol=0)
    assert (layer(x)[:, sparse][x[:, sparse] == 0] == 0).all()
    if not sparse.all():  # the others are as they would be by themselves
        others = SimpleNamespace(mean=layer.mean[~sparse], scale=layer.scale[~sparse])
        assert_same_statistics(standardize(x[:, ~sparse], weights), others, 1e-9)


@pytest.mark.parametrize(("n_nonzero", "centred"), [(1, False), (20, False), (21, True), (100, True)])
def test_a_column_is_sparse_up_to_a_fifth_that_is_not_zero(n_nonzero, centred):
    x = with_zeros(100, n_nonzero / 100)
    assert (standardize(x).mean.item() != 0) == centred
    doubled = standardize(x, torch.full((100,), 0.1))
    assert (doubled.mean.item() != 0) == centred


def test_words_of_a_long_text_are_as_large_together_as_one_number():
    x = torch.zeros(100, 400)
    x.view(-1)[::9] = 3.0  # 44 words in each text
    out = standardize(x)(x)
    assert out.square().sum(1).sqrt().tolist() == pytest.approx([1.0] * 100, rel=0.06)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_value_however_large_leaves_the_limits(dtype):
    layer = Standardize(1).to(dtype)
    layer.observe(random(50, 1).to(dtype), torch.ones(50))
    largest = torch.finfo(dtype).max
    out = layer(torch.tensor([[-largest], [-1e9], [0.0], [1e9], [largest]], dtype=dtype))
    assert out[[0, 1, 3, 4], 0].tolist() == pytest.approx([-3, -3, 3, 3], rel=1e-6)
    assert (out.diff(dim=0) >= 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 2**32))
def test_weight_is_the_number_of_times_that_a_row_stands_there(weights, batch_size, seed):
    weights = torch.tensor(weights)
    x = 100 + random(len(weights), 2, seed=seed)
    repeated = x.repeat_interleave(weights, dim=0)
    assert_same_statistics(standardize(x, weights, batch_size), standardize(repeated, batch_size=batch_size))


def test_batch_without_weight_is_not_observed():
    layer = Standardize(2)
    layer.observe(random(4, 2), torch.zeros(4))
    layer.observe(torch.empty(0, 2), torch.empty(0))
    assert not layer.observed and layer.mean.tolist() == [0, 0] and layer.scale.tolist() == [1, 1]


@pytest.mark.parametrize("offset", [0, -1e4, 1e8])
def test_deviation_is_not_lost_beside_a_large_mean(offset):
    x = random(5000, 1)
    layer = standardize(x + offset, batch_size=64)
    assert layer.scale.item() == pytest.approx(x.std(correction=0).item(), rel=1e-6)


def test_float32_batches_are_summed_in_float64():
    x = (1e5 + random(20_000, 1)).float()
    assert_same_statistics(standardize(x, batch_size=100), standardize(x.double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e6, 1e6 + 0.1, 7e-9, -1e15])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_constant_feature_is_only_centred(value, dtype, batch_size):
    x = torch.full((1000, 1), value, dtype=dtype)
    layer = standardize(x, random(1000).abs(), batch_size)
    assert layer.scale.item() == 1
    assert layer(x).abs().max().item() <= 1e-15 * abs(value)


def test_rounding_noise_around_a_constant_does_not_count_as_variation():
    x = torch.tensor([[0.3], [0.1 * 3]], dtype=torch.float64).repeat(50, 1)
    assert x.unique().numel() == 2
    assert standardize(x, batch_size=7).scale.item() == 1


@pytest.mark.parametrize(("mean", "deviation"), [(1e6, 1e-3), (1e-9, 1e-9), (0, 1e-20)])
def test_small_variation_is_not_taken_for_a_constant(mean, deviation):
    x = mean + deviation * random(1000, 1)
    assert standardize(x, batch_size=100).scale.item() == pytest.approx(deviation, rel=0.1)


def through_state_dict(layer):
    other = Standardize(2).to(layer.mean.dtype)
    other.load_state_dict(layer.state_dict())
    return other


def through_file(layer):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = Standardize(2).to(layer.mean.dtype)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize(
    "travel",
    [
        through_state_dict,
        through_file,
        copy.deepcopy,
        lambda layer: pickle.loads(pickle.dumps(layer)),
        lambda layer: nn.Sequential(layer, nn.ReLU()).float().double()[0],
        lambda layer: layer.bfloat16().double(),
    ],
    ids=["state_dict", "file", "deepcopy", "pickle", "float and double", "bfloat16 and double"],
)
def test_statistics_travel_with_the_network_and_can_go_on(travel):
    x = 1000 + random(100, 2)
    there = travel(standardize(x[:60]))
    assert there.observed
    torch.testing.assert_close(there.mean, x[:60].mean(0), rtol=1e-2, atol=0)
    assert_same_statistics(standardize(x[60:], layer=there), standardize(x))


def test_statistics_are_no_parameters_and_training_does_not_change_them():
    layer = standardize(random(50, 2))
    before = copy.deepcopy(layer.state_dict())
    layer.train()(random(10, 2, seed=1))
    assert not list(layer.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_output_has_the_dtype_of_the_input(dtype):
    assert standardize(random(50, 2))(random(3, 2).to(dtype)).dtype == dtype


@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (2,), (4, 2, 2)])
def test_batch_of_other_features_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
        Standardize(2).observe(torch.zeros(shape), torch.ones(shape[0]))


# --- MLP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "shapes"),
    [
        ((128, 128), [(128, 4), (128, 128), (3, 128)]),
        ([7, 5, 6], [(7, 4), (5, 7), (6, 5), (3, 6)]),
        (9, [(9, 4), (3, 9)]),
        (np.int64(9), [(9, 4), (3, 9)]),
        ((), [(3, 4)]),
    ],
)
def test_mlp_is_a_chain_of_standardization_and_linear_layers_with_relu_between(hidden, shapes):
    network = MLP(4, 3, hidden)
    kinds = [Standardize] + [nn.Linear, nn.ReLU] * (len(shapes) - 1) + [nn.Linear]
    assert [type(layer) for layer in network] == kinds
    assert [tuple(layer.weight.shape) for layer in network if isinstance(layer, nn.Linear)] == shapes
    assert network(torch.zeros(2, 4)).shape == (2, 3)


def test_mlp_has_two_hidden_layers_of_128_by_default():
    assert [layer.out_features for layer in MLP(4, 3) if isinstance(layer, nn.Linear)] == [128, 128, 3]


@pytest.mark.parametrize("hidden", [0, (8, 0), (8, 2.5), "8", (8, -1)])
def test_mlp_refuses_widths_that_are_no_positive_integers(hidden):
    with pytest.raises(ValueError, match="hidden must be a positive integer or a sequence of them"):
        MLP(4, 3, hidden)


def fit(network, x, targets, steps, lr):
    """Full-batch training; the accuracy on the training data."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(x), targets).backward()
        optimizer.step()
    return (network(x).argmax(1) == targets).float().mean().item()


def test_mlp_learns_a_table_in_raw_units():
    X, y = (torch.tensor(values) for values in load_wine(return_X_y=True))
    torch.manual_seed(0)
    network = MLP(13, 3, hidden=16)
    network[0].observe(X.float(), torch.ones(len(X)))
    assert fit(network, X.float(), y, steps=60, lr=0.01) > 0.97


# --- SmallCNN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (8, 50), (9, 11), (28, 28), (33, 10)])
def test_small_cnn_takes_any_image_from_8_by_8_up(n_channels, size):
    assert SmallCNN(n_channels, 5)(torch.zeros(2, n_channels, *size)).shape == (2, 5)


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (28, 28), (12, 31)])
def test_small_cnn_pools_the_four_quarters(size):
    network, x = SmallCNN(1, 5).double(), random(2, 1, *size)
    maps = network.conv2(torch.max_pool2d(network.conv1(x).relu(), 2)).relu()
    maps = network.conv3(torch.max_pool2d(maps, 2)).relu()
    torch.testing.assert_close(network(x), network.linear(adaptive_max_pool2d(maps, 2).flatten(1)))


def test_small_cnn_treats_each_image_by_itself_and_alike_in_train_and_eval_mode():
    network, x = SmallCNN(1, 5).double(), random(6, 1, 8, 8)
    alone = torch.cat([network.train()(image[None]) for image in x])
    torch.testing.assert_close(network.eval()(x), alone)


def test_small_cnn_learns_the_digits():
    X, y = load_digits(return_X_y=True)
    x, targets = torch.tensor(X[:500] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y[:500])
    torch.manual_seed(0)
    assert fit(SmallCNN(1, 10), x, targets, steps=60, lr=0.01) > 0.95


@pytest.mark.parametrize(
    ("network", "smallest", "sizes"),
    [
        (SmallCNN(1, 5), 8, [(7, 8), (8, 7), (1, 100)]),
        (CifarCNN(1, 5), 28, [(27, 28), (28, 27), (8, 100)]),
    ],
)
def test_too_small_images_are_refused_in_the_words_of_the_user(network, smallest, sizes):
    for height, width in sizes:
        message = rf"at least {smallest}x{smallest} pixels, got {height}x{width}"
        with pytest.raises(ValueError, match=message):
            network(torch.zeros(2, 1, height, width))


# --- CifarCNN --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    return OriginalCNN(input_channel=2, n_outputs=7)


def test_cifar_cnn_starts_like_the_original_from_the_same_seed(original):
    torch.manual_seed(0)
    network, expected = CifarCNN(input_channel=2, n_outputs=7).state_dict(), original.state_dict()
    assert network.keys() == expected.keys()
    assert all(torch.equal(network[name], expected[name]) for name in expected)


def test_cifar_cnn_has_the_defaults_of_the_original():
    with torch.device("meta"):
        network, original = CifarCNN(), OriginalCNN()
    assert network.dropout_rate == original.dropout_rate
    shapes, expected = ({name: p.shape for name, p in each.named_parameters()} for each in (network, original))
    assert shapes == expected and "bn_c1.weight" not in shapes


@pytest.mark.parametrize("size", [28, 32, 36])
def test_cifar_cnn_is_the_function_of_the_original_in_train_mode(original, size):
    network, original, x = CifarCNN(2, 7), copy.deepcopy(original), random(2, 2, size, size).float()
    network.load_state_dict(original.state_dict())
    outputs = []
    for each in (network, original):
        torch.manual_seed(1)
        outputs.append(each(x))
    torch.testing.assert_close(*outputs)
    gradients = [
        torch.autograd.grad(output.square().sum(), each.c1.weight)[0]
        for output, each in zip(outputs, (network, original), strict=True)
    ]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(network.bn9.running_var, original.bn9.running_var)
    original.load_state_dict(network.state_dict())


def test_cifar_cnn_drops_nothing_in_eval_mode(original):
    network, x = CifarCNN(2, 7).eval(), random(2, 2, 28, 28).float()
    network.load_state_dict(original.state_dict())
    without_dropout = copy.deepcopy(original).eval()
    without_dropout.dropout_rate = 0
    torch.testing.assert_close(network(x), without_dropout(x))
    assert torch.equal(network(x), network(x))


def test_cifar_cnn_normalises_its_logits_with_top_bn():
    network = CifarCNN(1, 3, top_bn=True)
    logits = network(random(8, 1, 28, 28).float())
    torch.testing.assert_close(logits.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert network.bn_c1.weight.requires_grad


@pytest.mark.parametrize("size", [(28, 40), (41, 28)])
def test_cifar_cnn_takes_images_that_are_not_square(size):
    """And looks at all of them: with the original's square pooling the end of the longer side has no influence."""
    network = CifarCNN(1, 3).eval()
    x = random(1, 1, *size).float().requires_grad_()
    network(x).sum().backward()
    assert x.grad[..., :4, :4].any() and x.grad[..., -4:, -4:].any()
