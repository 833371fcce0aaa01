"""Predictions in batches are those of the whole, and nothing is changed or asked for twice."""

import functools
import math

import numpy as np
import pytest
import torch
from _training.trainers import CPU, N_CLASSES, N_FEATURES, N, indices_of, make_data, make_networks, watched
from torch import nn

from skcoteach._data.inputs import Inputs
from skcoteach._training import inference
from skcoteach._training.inference import chunk_size, log_mean_probabilities, mean_probabilities

pytestmark = pytest.mark.filterwarnings("error")

predict = functools.partial(inference.predict, n_classes=N_CLASSES)


# --- in batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20_000, 3), (300, 1, 128, 128)], ids=["table", "images"])
def test_predictions_in_chunks_are_those_of_the_whole(shape):
    generator = np.random.default_rng(0)
    X = generator.normal(size=shape).astype(np.float32)
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 3)).double() for _ in range(2)]
    inputs, _ = watched(networks)
    predicted = predict(networks, Inputs(X, CPU, torch.float64), mean_probabilities)
    sizes = [len(batch) for batch in inputs]
    whole = torch.from_numpy(X).double()
    expected = (networks[0](whole).softmax(1) + networks[1](whole).softmax(1)) / 2
    torch.testing.assert_close(predicted, expected, rtol=1e-12, atol=1e-12)
    assert not predicted.requires_grad
    assert len(sizes) > 1
    assert sum(sizes) == shape[0]
    assert max(sizes) * math.prod(shape[1:]) <= 2**20


@pytest.mark.parametrize("chunk", [7, 8192])
def test_predictions_of_some_examples_are_those_of_all_at_their_indices(chunk, monkeypatch):
    monkeypatch.setattr(inference, "chunk_size", lambda inputs: chunk)
    inputs, networks = make_data().inputs, make_networks()
    everything = predict(networks, inputs, mean_probabilities)
    assert everything.shape == (N, N_CLASSES)
    for indices in (
        torch.arange(N),
        torch.arange(N).flip(0),
        torch.tensor([5, 0, 5, 89, 3, 41, 2, 17]),
        torch.tensor([3]),
    ):
        some = predict(networks, inputs, mean_probabilities, indices)
        torch.testing.assert_close(some, everything[indices], rtol=1e-12, atol=1e-12)


def test_only_the_examples_that_are_wanted_are_predicted():
    networks = make_networks()
    seen, _ = watched(networks)
    data = make_data()
    predict(networks, data.inputs, mean_probabilities, torch.tensor([4, 1]))
    assert indices_of(seen, data) == [[4, 1]]


def test_large_examples_go_at_least_64_at_a_time():
    inputs = Inputs(np.broadcast_to(np.float32(1), (130, 1, 130, 130)))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    seen, _ = watched([network, nn.Identity()])
    predict((network, network), inputs, mean_probabilities, n_classes=2)
    assert [len(batch) for batch in seen[::2]] == [64, 64, 2]


@pytest.mark.parametrize(("shape", "size"), [((9, 3), 2048), ((9, 1, 32, 32), 1024), ((9, 3, 400, 400), 64)])
def test_a_cpu_gets_as_much_at_a_time_as_its_cache_holds(shape, size):
    assert chunk_size(Inputs(np.broadcast_to(np.float32(1), shape))) == size


def test_a_single_example_is_predicted_as_a_batch_of_one():
    networks = make_networks()
    X = np.random.default_rng(0).normal(size=(1, N_FEATURES))
    assert predict(networks, Inputs(X, CPU, torch.float64), mean_probabilities).shape == (1, N_CLASSES)


# --- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_probabilities_are_the_mean_of_both_networks_in_double_precision(temperature):
    logits = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) * 5
    probabilities = mean_probabilities(logits, temperature)
    exponentials = np.exp(logits.double().numpy() / temperature)
    expected = (exponentials / exponentials.sum(2, keepdims=True)).mean(0)
    assert probabilities.dtype == torch.float64
    assert probabilities.numpy() == pytest.approx(expected, rel=1e-13)
    assert probabilities.sum(1).tolist() == pytest.approx([1.0] * 50, abs=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_logarithm_of_the_probabilities_is_exact_and_finite_for_extreme_logits(temperature):
    logits = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(
        log_mean_probabilities(logits, temperature),
        mean_probabilities(logits, temperature).log(),
        rtol=1e-12,
        atol=1e-12,
    )
    extreme = torch.tensor([[[0.0, 2000.0]], [[0.0, 3000.0]]])
    assert mean_probabilities(extreme, temperature).tolist() == [[0.0, 1.0]]
    # log((exp(-2000 / T) + exp(-3000 / T)) / 2)
    expected = [-2000 / temperature - math.log(2), 0.0]
    assert log_mean_probabilities(extreme, temperature).tolist()[0] == pytest.approx(expected, abs=1e-12)
    assert torch.isfinite(log_mean_probabilities(torch.tensor([[[-3e38, 3e38]], [[3e38, -3e38]]]))).all()


# --- nothing is changed or asked for twice ---------------------------------------------------------------------------


class CountingData(torch.utils.data.Dataset):
    def __init__(self, X):
        self.X, self.asked = X, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        self.asked.append(index)
        return torch.from_numpy(self.X[index])


def test_every_item_is_asked_for_once_for_both_networks():
    data = CountingData(np.random.default_rng(0).normal(size=(30, N_FEATURES)))
    inputs = Inputs(data, CPU, torch.float64)
    data.asked.clear()
    predict(make_networks(), inputs, mean_probabilities)
    assert data.asked == list(range(30))


@pytest.mark.parametrize("late", [False, True], ids=["from-the-first-examples", "from-later-examples"])
def test_inputs_are_never_changed_by_networks_that_work_in_place(late, monkeypatch):
    monkeypatch.setattr(inference, "chunk_size", lambda inputs: 7)

    class Clamping(nn.Module):
        def forward(self, x):
            return x.data.clamp_(max=0.5) if not late or x[0, 0] > 20 else x * 1.0

    X = np.arange(30.0 * N_FEATURES).reshape(30, N_FEATURES)
    kept = X.copy()
    predicted = predict(
        (Clamping(), Clamping()), Inputs(X, CPU, torch.float64), lambda logits: logits.mean(0), n_classes=N_FEATURES
    )
    assert np.array_equal(X, kept)
    assert predicted.min() <= 0.5


def test_the_second_network_gets_what_the_first_one_got_before_it_worked_in_place():
    class Doubling(nn.Linear):
        def forward(self, x):
            return super().forward(x.mul_(2))

    X = np.random.default_rng(0).normal(size=(30, N_FEATURES))
    one = Doubling(N_FEATURES, N_CLASSES).double()
    logits = []
    predict((one, one), Inputs(X, CPU, torch.float64), lambda each: logits.append(each) or each.mean(0))
    assert torch.equal(logits[0][0], logits[0][1])


def test_predictions_need_no_gradients_and_leave_modes_as_they_are():
    networks = make_networks()
    networks[0].eval()
    seen = []
    networks[0].register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    predict(networks, make_data().inputs, mean_probabilities)
    assert seen == [False]
    assert (networks[0].training, networks[1].training) == (False, True)


def test_what_torch_cannot_compute_is_told_with_the_shape_of_the_batch():
    network = nn.Linear(7, 2).double()
    with pytest.raises(ValueError, match=r"Linear cannot take a batch of X with shape \(90, 4\)"):
        predict((network, network), make_data().inputs, mean_probabilities)


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_no_logits_is_told_of_the_network_that_gave_it(number):
    networks = make_networks()
    networks[number].register_forward_hook(lambda module, args, output: output[:, :2])
    with pytest.raises(ValueError, match=rf"by {('module', 'module2')[number]} must return .*\(90, 3\).*\(90, 2\)"):
        predict(networks, make_data().inputs, mean_probabilities)
