"""The documented functions against ``cleanlab.experimental.coteaching``, and without its faults."""

import copy
from argparse import Namespace

import numpy as np
import pytest
import torch
from cleanlab.experimental import coteaching as original
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skcoteach import coteaching

# Both are about how the original calls torch and NumPy.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:size_average and reduce args will be deprecated"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]


@pytest.fixture
def without_cuda(monkeypatch):
    """Lets the original, which calls ``.cuda()``, run on the CPU."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)


def accuracy(output, target, topk=(1,)):
    """Accuracy in percent, as tensors of one element: what the documented scripts pass."""
    correct = output.topk(max(topk)).indices == target[:, None]
    return [correct[:, :k].any(1).float().mean(0, keepdim=True) * 100 for k in topk]


def make_loader(n, n_classes, batch_size=32, n_features=5):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, n_features, generator=generator)
    labels = torch.randint(n_classes, (n,), generator=generator)
    return DataLoader(TensorDataset(x, labels), batch_size)


def make_networks(n_classes, n_features=5):
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, n_classes))
        for _ in range(2)
    ]


def run(module, loader, networks, *, epochs=3, forget_rate=0.4, class_weights=None, accuracy=accuracy, print_freq=2):
    """Train as the documented script does; the accuracies of every epoch."""
    torch.manual_seed(1)
    optimizers = [torch.optim.Adam(network.parameters(), lr=0.01) for network in networks]
    alpha_plan, beta1_plan = module.initialize_lr_scheduler(lr=0.01, epochs=epochs, epoch_decay_start=1)
    schedule = module.forget_rate_scheduler(epochs, forget_rate, num_gradual=min(2, epochs), exponent=1)
    args = Namespace(print_freq=print_freq, epochs=epochs, batch_size=loader.batch_size)
    accuracies = []
    for epoch in range(epochs):
        for optimizer in optimizers:
            module.adjust_learning_rate(optimizer, epoch, alpha_plan, beta1_plan)
        accuracies.append(
            module.train(
                loader,
                epoch,
                networks[0],
                optimizers[0],
                networks[1],
                optimizers[1],
                args,
                schedule,
                class_weights,
                accuracy,
            )
        )
    return accuracies


def assert_same_weights(networks, expected, **tolerance):
    for network, other in zip(networks, expected, strict=True):
        torch.testing.assert_close(network.state_dict(), other.state_dict(), **tolerance)


# --- numbers of the original -----------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0, 0.99), st.floats(0, 4))
def test_forget_rates_are_exactly_the_documented_ones(epochs, num_gradual, forget_rate, exponent):
    num_gradual = min(num_gradual, epochs)
    actual = coteaching.forget_rate_scheduler(epochs, forget_rate, num_gradual, exponent)
    assert np.array_equal(actual, original.forget_rate_scheduler(epochs, forget_rate, num_gradual, exponent))


@given(st.floats(1e-6, 10), st.integers(0, 300), st.integers(0, 300))
def test_learning_rates_are_exactly_the_documented_ones(lr, epochs, epoch_decay_start):
    plans = coteaching.initialize_lr_scheduler(lr, epochs, epoch_decay_start)
    assert plans == original.initialize_lr_scheduler(lr, epochs, epoch_decay_start)


def test_defaults_of_the_learning_rates_are_the_documented_ones():
    assert coteaching.initialize_lr_scheduler() == original.initialize_lr_scheduler()


def test_learning_rate_and_betas_of_all_groups_are_set():
    optimizers = [torch.optim.Adam([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}]) for _ in range(2)]
    for module, optimizer in zip((coteaching, original), optimizers, strict=True):
        module.adjust_learning_rate(optimizer, 1, [0.1, 0.05], [0.9, 0.7])
    groups, expected = ([(g["lr"], g["betas"]) for g in optimizer.param_groups] for optimizer in optimizers)
    assert groups == expected == [(0.05, (0.7, 0.999))] * 2


def losses_and_gradients(module, logits, targets, forget_rate, class_weights):
    logits = [each.clone().requires_grad_() for each in logits]
    losses = module.loss_coteaching(*logits, targets, forget_rate, class_weights)
    return losses + tuple(torch.autograd.grad(loss, each)[0] for loss, each in zip(losses, logits, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(2, 7), st.floats(0, 0.95), st.booleans(), st.integers(0, 2**32))
def test_losses_and_gradients_are_the_documented_ones(n, n_classes, forget_rate, weighted, seed):
    if int((1 - forget_rate) * n) < 1:
        return
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, n, n_classes, generator=generator)
    targets = torch.randint(n_classes, (n,), generator=generator)
    class_weights = 0.1 + torch.rand(n_classes, generator=generator) if weighted else None
    actual, expected = (
        losses_and_gradients(module, logits, targets, forget_rate, class_weights) for module in (coteaching, original)
    )
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-8)


def test_evaluation_draws_as_many_numbers_from_the_global_generator_as_the_original(without_cuda, capsys):
    loader, drawn = make_loader(150, n_classes=6), []
    for module in (coteaching, original):
        torch.manual_seed(3)
        module.evaluate(loader, *make_networks(n_classes=6))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def test_an_iterator_is_not_enough_for_two_networks():
    with pytest.raises(ValueError, match="gone through once for each network, so an iterator is not enough"):
        coteaching.evaluate(iter(make_loader(64, 3)), *make_networks(3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [150, 140])  # the last batch has 22 examples, or 12 and is skipped
def test_training_ends_in_the_documented_weights_and_prints_the_same_lines(n, weighted, without_cuda, capsys):
    class_weights = torch.tensor([1.0, 2.0, 0.5, 1.5, 1.0, 3.0]) if weighted else None
    loader, results = make_loader(n, n_classes=6), []
    for module in (coteaching, original):
        networks = [network.eval() for network in make_networks(n_classes=6)]
        accuracies = run(module, loader, networks, class_weights=class_weights)
        accuracies.append(module.evaluate(loader, *networks))
        results.append((networks, accuracies, capsys.readouterr().out))
    (networks, accuracies, printed), (expected, expected_accuracies, expected_printed) = results
    assert_same_weights(networks, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(accuracies, expected_accuracies, rtol=1e-6, atol=0)
    assert printed == expected_printed
    assert printed.count("\n") == 3 * 2 + 1 and "Iter [2/4]" in printed


# --- without the faults of the original ------------------------------------------------------------------------------


def test_peer_learns_from_what_a_network_keeps_and_not_from_its_own_choice():
    """Network 1 is sure of example 0, network 2 of example 1."""
    y_1 = torch.tensor([[9.0, 0.0], [0.0, 0.0]], requires_grad=True)
    y_2 = torch.tensor([[0.0, 0.0], [9.0, 0.0]], requires_grad=True)
    loss_1, loss_2 = coteaching.loss_coteaching(y_1, y_2, torch.tensor([0, 0]), forget_rate=0.5)
    (loss_1 + loss_2).backward()
    assert y_1.grad.any(1).tolist() == [False, True]
    assert y_2.grad.any(1).tolist() == [True, False]


@pytest.mark.parametrize("n", [1, 5])
def test_at_least_one_example_is_learnt_from(n):
    logits = torch.randn(2, n, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = coteaching.loss_coteaching(*logits, torch.zeros(n, dtype=torch.int64), forget_rate=0.9)
    sum(losses).backward()
    assert all(loss.isfinite() for loss in losses)
    assert logits.grad.any(2).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(("n_classes", "topk"), [(2, (1, 2)), (4, (1, 4)), (5, (1, 5)), (8, (1, 5))])
def test_accuracy_is_asked_for_no_more_than_there_are_classes(n_classes, topk):
    asked = []

    def recording_accuracy(output, target, topk):
        asked.append(topk)
        return accuracy(output, target, topk)

    run(coteaching, make_loader(64, n_classes), make_networks(n_classes), accuracy=recording_accuracy)
    assert set(asked) == {topk}


def test_accuracy_may_return_plain_numbers():
    loader = make_loader(96, n_classes=3)
    numbers = run(
        coteaching, loader, make_networks(3), accuracy=lambda *args, **kw: [a.item() for a in accuracy(*args, **kw)]
    )
    assert np.allclose(numbers, run(coteaching, loader, make_networks(3)))


def test_accuracy_is_the_mean_over_the_batches_trained_on():
    values = iter([(10.0, 0), (30.0, 0), (20.0, 0), (60.0, 0)])
    loader = make_loader(70, n_classes=3)  # the last of three batches is skipped
    accuracies = run(coteaching, loader, make_networks(3), epochs=1, accuracy=lambda *args, **kw: next(values))
    assert accuracies == [(15.0, 45.0)]


@pytest.mark.parametrize(("n_last", "trained"), [(15, False), (16, True)])
def test_last_batch_of_fewer_than_16_is_skipped(n_last, trained):
    networks, expected = make_networks(3), make_networks(3)
    run(coteaching, make_loader(32 + n_last, 3), networks)
    run(coteaching, DataLoader(torch.utils.data.Subset(make_loader(32 + n_last, 3).dataset, range(32)), 32), expected)
    same = torch.equal(networks[0][0].weight, expected[0][0].weight)
    assert same != trained


def test_only_batch_is_trained_on_however_small():
    networks = make_networks(3)
    before = copy.deepcopy(networks)
    (accuracies,) = run(coteaching, make_loader(5, 3), networks, epochs=1)
    assert all(0 <= each <= 100 for each in accuracies)
    for network, other in zip(networks, before, strict=True):
        assert not torch.equal(network[0].weight, other[0].weight)


def test_empty_loaders_are_refused():
    networks = make_networks(3)
    with pytest.raises(ValueError, match="train_loader is empty"):
        run(coteaching, make_loader(0, 3), networks)
    with pytest.raises(ValueError, match="test_loader is empty"):
        coteaching.evaluate(make_loader(0, 3), *networks)


def test_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"num_gradual \(10\) is greater than epochs \(5\)"):
        coteaching.forget_rate_scheduler(epochs=5, forget_rate=0.2, num_gradual=10, exponent=1)


def test_evaluation_tracks_no_gradients_and_leaves_grad_mode_and_eval_mode_as_documented():
    networks, tracked = make_networks(3), []
    for network in networks:
        network.register_forward_hook(lambda module, inputs, output: tracked.append(output.requires_grad))
    coteaching.evaluate(make_loader(64, 3), *networks)
    assert tracked == [False] * 4
    assert torch.is_grad_enabled() and not any(network.training for network in networks)


def test_batches_move_to_the_device_of_the_networks_which_is_asked_for_nothing_before_the_end():
    """Tensors on the meta device have no values: reading one raises, here the accuracies at the end of the epoch."""
    networks = [nn.Linear(5, 3, device="meta") for _ in range(2)]
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in networks]
    args, devices = Namespace(print_freq=100, epochs=1, batch_size=32), []

    def recording_accuracy(output, target, topk):
        devices.append((output.device.type, target.device.type))
        return accuracy(output, target, topk)

    with pytest.raises(RuntimeError, match="meta tensors"):
        coteaching.train(
            make_loader(96, 3),
            0,
            networks[0],
            optimizers[0],
            networks[1],
            optimizers[1],
            args,
            [0.2],
            torch.ones(3),
            recording_accuracy,
        )
    assert devices == [("meta", "meta")] * 2 * 3


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_training_on_an_accelerator_is_that_on_the_cpu():
    device, loader = torch.accelerator.current_accelerator(), make_loader(96, 3)
    networks, expected = ([nn.Linear(5, 3) for _ in range(2)] for _ in range(2))
    for network, other in zip(networks, expected, strict=True):
        network.load_state_dict(other.state_dict())
        network.to(device)
    accuracies = run(coteaching, loader, networks, class_weights=torch.tensor([1.0, 2.0, 3.0]))
    assert np.allclose(accuracies, run(coteaching, loader, expected, class_weights=torch.tensor([1.0, 2.0, 3.0])))
    assert_same_weights([network.cpu() for network in networks], expected, rtol=1e-3, atol=1e-4)
    assert np.allclose(
        coteaching.evaluate(loader, *(network.to(device) for network in networks)),
        coteaching.evaluate(loader, *expected),
    )
