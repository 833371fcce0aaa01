"""Recorded steps do what steps launched one by one do.

CUDA graphs need a GPU. On the CPU a tape stands in for them that keeps what makes recordings go wrong: it replays calls
on the same memory, with the same numbers for all that is no tensor, and runs no Python of ours; nothing has happened
after the recording.
"""

import contextlib
import copy
import gc
import itertools
import math
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from skcoteach import CoTeachingClassifier, capture, run
from skcoteach.batches import Rows
from skcoteach.capture import Graphs, record_on_cuda
from skcoteach.chains import ACTIVATIONS, Chains
from skcoteach.optimizers import OneTensorAdam, keep_rate_on_device
from skcoteach.training import CoTeaching, TrainingData

pytestmark = pytest.mark.filterwarnings("error")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")

CPU = torch.device("cpu")
N, N_FEATURES, N_CLASSES, BATCH_SIZE = 90, 4, 3, 32
aten = torch.ops.aten

#: What a graph cannot hold: they wait for the device, or their results have as many rows as the numbers want.
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.equal, aten.masked_select, aten._unique2}


def tensors_in(*values):
    return [each for each in tree_flatten(values)[0] if isinstance(each, torch.Tensor)]


def memory(tensor):
    return tensor.untyped_storage()._cdata


class Tape(TorchDispatchMode):
    """The calls of operators that a function makes."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.made = set()
        self.found = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert operator.overloadpacket not in WAITING, f"{operator} waits for the device"
        for tensor in tensors_in(args, kwargs):
            if memory(tensor) not in self.made | self.found.keys():
                self.found[memory(tensor)] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        results = operator(*args, **kwargs)
        self.made |= {memory(each) for each in tensors_in(results)} - self.found.keys()
        self.calls.append((operator, args, kwargs, results))
        return results

    def undo(self):
        """What was there before the function was called is again what it was."""
        for storage, before in self.found.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self):
        for operator, args, kwargs, results in self.calls:
            for place, value in zip(tensors_in(results), tensors_in(operator(*args, **kwargs)), strict=True):
                if memory(place) != memory(value):
                    place.copy_(value)


class Tapes:
    """A recorder, and what it has recorded."""

    def __init__(self):
        self.all = []

    def __call__(self, function, inputs):
        tape = Tape()
        with tape:
            outputs = function(*inputs)
        tape.undo()
        self.all.append(tape)
        return tape.replay, outputs


@pytest.fixture(autouse=True)
def can_record(monkeypatch):
    """Failures of one test are nothing to the next."""
    monkeypatch.setattr(Graphs, "can_record", True)


@pytest.fixture
def at_once(monkeypatch):
    """Forms of inputs are recorded as soon as they have been met."""
    monkeypatch.setattr(capture, "EAGER_STEPS", 1)


def record(function, *inputs):
    """Graphs with a recording of this function for inputs like these."""
    graphs = Graphs(Tapes())
    graphs(function, 1, *inputs)
    graphs.record(function)
    return graphs


# --- the tape --------------------------------------------------------------------------------------------------------


def test_the_tape_replays_with_the_tensors_of_now_and_the_numbers_of_then():
    number, tensor = 2.0, torch.tensor(2.0)
    replay, (product, sums) = Tapes()(lambda x: (x * number * tensor, x.add_(number).sum(0)), (place := torch.ones(3),))
    assert place.tolist() == [1, 1, 1]
    number = 100.0
    tensor.fill_(10)
    place.fill_(3)
    replay()
    assert product.tolist() == [60, 60, 60] and place.tolist() == [5, 5, 5] and float(sums) == 15


@pytest.mark.parametrize("question", [torch.Tensor.item, bool, torch.Tensor.nonzero, lambda x: x[x > 0]])
def test_the_tape_finds_who_waits_for_the_device(question):
    with pytest.raises(AssertionError, match="waits"):
        Tapes()(lambda x: (question(x.sum()),), (torch.ones(3),))


# --- graphs of any function ------------------------------------------------------------------------------------------


def test_a_form_of_inputs_is_recorded_once_it_has_been_met_often_enough(monkeypatch):
    monkeypatch.setattr(capture, "EAGER_STEPS", 5)
    called = []

    def function(x):
        called.append(tuple(x.shape))
        return (x + 1,)

    tapes = Tapes()
    graphs = Graphs(tapes)
    for n in (3, 3, 2, 3):
        assert torch.equal(graphs(function, 2, torch.zeros(n))[0], torch.ones(n))
        assert not tapes.all
        if len(called) < 4:
            graphs.record(function)
    assert called == [(3,), (3,), (2,), (3,)]
    graphs.record(function)
    assert called[4:] == [(3,)] and len(tapes.all) == 1  # the recording itself
    for value in (1.0, 2.0):
        assert graphs(function, 2, torch.full((3,), value))[0].tolist() == [value + 1] * 3
    assert len(called) == 5
    graphs(function, 2, torch.zeros(2))
    graphs(function, 2, torch.zeros(3, dtype=torch.float64))
    assert len(called) == 7
    graphs.record(function)
    assert len(tapes.all) == 1


def test_inputs_are_taken_whatever_their_layout_and_left_alone(at_once):
    def function(x, y):
        return (x.mul_(2) @ y,)

    x, y = torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3)
    graphs = record(function, x.clone(), y.T)
    before = x.clone()
    assert torch.equal(graphs(function, 1, x, y.T)[0], 2 * before @ y.T)
    assert torch.equal(x, before)


def test_what_was_recorded_can_be_forgotten(at_once):
    weight = [torch.ones(3)]

    def function(x):
        return (x * weight[0],)

    graphs = record(function, torch.ones(3))
    weight[0] = torch.full((3,), 5.0)
    assert graphs(function, 1, torch.ones(3))[0].tolist() == [1, 1, 1]
    graphs.forget()
    assert graphs(function, 1, torch.ones(3))[0].tolist() == [5, 5, 5]
    graphs.record(function)
    assert graphs(function, 1, torch.ones(3))[0].tolist() == [5, 5, 5]


def double(x):
    return (2 * x,)


def refuse(function, inputs):
    """A recorder: the error that torch raises in the end, while handling the one that was the cause."""
    try:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with")
    except RuntimeError:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")  # noqa: B904


def test_where_nothing_can_be_recorded_a_warning_tells_the_cause_and_the_function_is_called(at_once):
    graphs = Graphs(refuse)
    for n in (2, 3):
        graphs(double, 1, torch.ones(n))
    with pytest.warns(
        RuntimeWarning, match="one by one.*optimizer__fused=False.*: .*not permitted[^\n]*capturing$"
    ) as told:
        graphs.record(double)
    assert len(told) == 1
    for n in (2, 3):
        assert graphs(double, 1, torch.ones(n))[0].tolist() == [2] * n
        graphs.record(double)


def test_after_a_failure_no_other_training_tries(at_once):
    failing, other = Graphs(refuse), Graphs(Tapes())
    for graphs in (failing, other):
        graphs(double, 1, torch.ones(2))
    with pytest.warns(RuntimeWarning):
        failing.record(double)
    other.record(double)
    assert not other._record.all


def test_a_step_that_torch_refuses_while_it_is_recorded_is_done_one_by_one_and_told_in_torchs_words(at_once):
    """An optimizer's refusal is a ValueError by the time that it arrives."""
    training, refused = make_training(Tapes(), make_networks()), []

    def refuse_to_be_recorded(function, inputs):
        step = training.optimizers[0].step
        training.optimizers[0].step = lambda: nn.Linear(3, 1)(torch.ones(1, 2))  # torch's error
        try:
            return function(*inputs)
        except ValueError as error:
            refused.append(error)
            raise
        finally:
            training.optimizers[0].step = step

    training._graphs = Graphs(refuse_to_be_recorded)
    data = make_data()
    training.run_epoch(data, 0, 0.01, 0.2)
    with pytest.warns(RuntimeWarning, match="one by one.*The reason: mat1 and mat2 shapes cannot be multiplied"):
        training.run_epoch(data, 1, 0.01, 0.2)
    assert len(refused) == 1 and "cannot train these networks" in str(refused[0])
    training.run_epoch(data, 2, 0.01, 0.2)


def test_a_failure_without_words_is_told_too(at_once):
    def fail(function, inputs):
        raise RuntimeError

    graphs = Graphs(fail)
    graphs(double, 1, torch.ones(2))
    with pytest.warns(RuntimeWarning, match=r"RuntimeError\(\)$"):
        graphs.record(double)


def test_errors_of_the_function_itself_are_not_taken_for_that(at_once):
    def function(x):
        if len(called) > 1:
            raise KeyError("mine")
        called.append(x)
        return (x,)

    called = [0]
    graphs = Graphs(Tapes())
    graphs(function, 1, torch.ones(1))
    with pytest.raises(KeyError, match="mine"):
        graphs.record(function)


class Fake:
    """Stands for what torch has for CUDA: contexts, of which the innermost stream is the current one."""

    current = "the user's stream"

    def __init__(self, stream=None):
        self.stream = stream

    def __enter__(self):
        self.before = Fake.current
        Fake.current = self.stream

    def __exit__(self, *error):
        Fake.current = self.before


@pytest.fixture
def graph_of_cuda(monkeypatch):
    """Lets ``record_on_cuda`` run; returns the class of its graphs."""

    class Graph:
        replay = None
        fails = False

        def __init__(self):
            self.modes = []

        def capture_begin(self, *arguments, capture_error_mode, **options):
            self.modes.append((capture_error_mode, gc.isenabled(), Fake.current))

        def capture_end(self):
            if self.fails:
                raise RuntimeError("previous error during capture")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "stream", Fake)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "a side stream")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Fake.current)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *arguments: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
    return Graph


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_a_recording_on_cuda_leaves_stream_and_collector_as_they_were(collects, fails, graph_of_cuda, monkeypatch):
    """With torch's own context of a recording, which forgets to restore the stream where its end fails."""
    monkeypatch.setattr(graph_of_cuda, "fails", fails)
    graphs, was_enabled = [], gc.isenabled()
    monkeypatch.setattr(graph_of_cuda, "replay", property(lambda graph: graphs.append(graph)))
    try:
        gc.enable() if collects else gc.disable()
        with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
            record_on_cuda(double, (torch.ones(2),))
        assert Fake.current == "the user's stream"
        assert gc.isenabled() is collects
    finally:
        gc.enable() if was_enabled else gc.disable()
    if not fails:
        assert graphs[0].modes == [("thread_local", False, "a side stream")]


# --- training --------------------------------------------------------------------------------------------------------


def make_data(device=CPU, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, N_FEATURES, generator=generator, dtype=dtype)
    targets = torch.randint(N_CLASSES, (N,), generator=generator)
    weights = torch.randint(1, 5, (N,), generator=generator) / 4
    rows = Rows(X.numpy()).place(device, dtype)
    rows.settle()
    return TrainingData(
        rows, targets.to(device), weights.to(device, dtype), torch.arange(N), targets, N_CLASSES, float(weights.max())
    )


def make_networks(activation=nn.ReLU, device=CPU, dtype=torch.float64):
    torch.manual_seed(0)
    make = lambda: nn.Sequential(nn.Linear(N_FEATURES, 6), activation(), nn.Linear(6, N_CLASSES))  # noqa: E731
    return tuple(make().to(device, dtype) for _ in range(2))


def make_training(recorder, networks=None, batch_size=BATCH_SIZE, class_floor=0.5, **options):
    engine = Chains(networks or make_networks())
    optimizer = OneTensorAdam([{"params": own} for own in engine.parameters], lr=1.0, fused=True, **options)
    keep_rate_on_device(optimizer)  # in either, so that they have the same bits
    return CoTeaching(
        networks,
        [optimizer],
        engine=engine,
        batch_size=batch_size,
        num_iter_per_epoch=None,
        class_floor=class_floor,
        augment=None,
        seed=7,
        keepers=torch.full((N,), 2),
        recorder=recorder,
    )


def train(co_teaching, data, n_epochs=5, start=0):
    """Of each epoch what it gives; rates change with every one."""
    results = []
    for epoch in range(start, start + n_epochs):
        record, *tensors = co_teaching.run_epoch(data, epoch, 0.1 / (epoch + 1), 0.1 * epoch)
        record.pop("duration")
        results.append((record, [each.clone() for each in tensors]))
    return results


def same(results, expected):
    return len(results) == len(expected) and all(
        record == other and all(map(torch.equal, tensors, others))
        for (record, tensors), (other, others) in zip(results, expected, strict=True)
    )


def weights_of(networks):
    return [parameter.detach().clone() for network in networks for parameter in network.parameters()]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=lambda each: each.__name__))
def test_a_recorded_training_has_the_bits_of_one_launched_step_by_step(activation, at_once):
    tapes, data = Tapes(), make_data()
    networks = make_networks(activation), make_networks(activation)
    recorded, plain = make_training(tapes, networks[0]), make_training(None, networks[1])
    assert same(train(recorded, data), train(plain, data))
    assert all(map(torch.equal, weights_of(networks[0]), weights_of(networks[1])))
    assert len(tapes.all) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"amsgrad": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"class_floor": 0.0},
        {"batch_size": 90},
    ],
    ids=str,
)
def test_that_holds_for_all_that_can_be_set(options, at_once):
    tapes, data = Tapes(), make_data()
    networks = make_networks(), make_networks()
    recorded, plain = make_training(tapes, networks[0], **options), make_training(None, networks[1], **options)
    assert same(train(recorded, data), train(plain, data))
    assert tapes.all


def test_every_shape_of_block_has_a_recording(at_once, monkeypatch):
    monkeypatch.setattr(CoTeaching, "_block_size", lambda co_teaching, data: 2 * BATCH_SIZE)
    tapes, data = Tapes(), make_data()
    networks = make_networks(), make_networks()
    recorded, plain = make_training(tapes, networks[0]), make_training(None, networks[1])
    assert same(train(recorded, data), train(plain, data))
    assert len(tapes.all) == 2


def test_the_steps_are_not_gone_through_once_they_are_recorded(at_once, monkeypatch):
    co_teaching, data = make_training(Tapes(), make_networks()), make_data()
    train(co_teaching, data, 2)
    monkeypatch.setattr(CoTeaching, "_step", None)
    train(co_teaching, data, 2, start=2)


def test_an_epoch_that_is_taken_back_leaves_a_training_that_goes_on_rightly(at_once):
    data, networks = make_data(), (make_networks(), make_networks())
    recorded, plain = make_training(Tapes(), networks[0]), make_training(None, networks[1])
    for co_teaching in (recorded, plain):
        train(co_teaching, data, 3)
        co_teaching.save()
        train(co_teaching, data, 1, start=3)
        co_teaching.restore()
    assert same(train(recorded, data, 4, start=3), train(plain, data, 4, start=3))
    assert all(map(torch.equal, weights_of(networks[0]), weights_of(networks[1])))


def test_a_training_that_could_not_be_recorded_goes_on_with_the_same_bits(at_once):
    data, networks = make_data(), (make_networks(), make_networks())
    refused, plain = make_training(refuse, networks[0]), make_training(None, networks[1])
    with pytest.warns(RuntimeWarning):
        results = train(refused, data)
    assert same(results, train(plain, data))


@contextlib.contextmanager
def a_kernel_for_shapes():
    """The fused Adam of a learning rate on the device, which torch lacks for the meta device."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_fused_adam_.tensor_lr", lambda *arguments, **options: None, "Meta")
    try:
        yield
    finally:
        library._destroy()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=lambda each: each.__name__))
def test_the_steps_ask_the_device_for_nothing_and_send_it_nothing(activation):
    """The meta device has no numbers to give, and mixes with no other."""
    meta = torch.device("meta")
    co_teaching = make_training(None, make_networks(activation, meta))
    tensors = [(N, N_FEATURES), (N,), (N_CLASSES, N), (2, N), (2, 3, 1)]
    inputs = [torch.empty(shape, dtype=torch.float64, device=meta) for shape in tensors]
    inputs[1] = inputs[1].long()
    with a_kernel_for_shapes():
        results = co_teaching._steps(*inputs)
    assert [each.device for each in results] == [meta] * 3


def test_all_that_a_recording_reads_lives_as_long_as_the_training(at_once):
    """A graph holds addresses: memory that nobody else owns would have been given away by then."""
    tapes, data = Tapes(), make_data()
    co_teaching = make_training(tapes, make_networks())
    train(co_teaching, data, 2)
    (tape,) = tapes.all
    read = [StorageWeakRef(storage) for storage, _ in tape.found.values()]
    assert len(read) > 5
    tape.calls.clear()
    tape.found.clear()
    gc.collect()
    assert not any(each.expired() for each in read)


def test_recordings_do_not_keep_a_training_alive(at_once):
    co_teaching = make_training(Tapes(), make_networks())
    train(co_teaching, make_data(), 2)
    reference = weakref.ref(co_teaching)
    gc.disable()
    try:
        del co_teaching
        assert reference() is None
    finally:
        gc.enable()


# --- the estimator ---------------------------------------------------------------------------------------------------


#: Of an epoch of the fits below: the last eight of the 200 rows are too few for one.
STEPS = 3


@pytest.fixture
def tapes(monkeypatch, at_once):
    """What is recorded of fits on the CPU."""
    tapes = Tapes()
    monkeypatch.setitem(run.RECORDERS, "cpu", tapes)
    return tapes


def fit(table, *, forget_rate=0.2, random_state=0, epochs=6, device="cpu", **parameters):
    return CoTeachingClassifier(
        forget_rate=forget_rate, epochs=epochs, random_state=random_state, batch_size=64, device=device, **parameters
    ).fit(*table, sample_weight=np.full(len(table[1]), 3.0))


@pytest.mark.parametrize("forget_rate", [0.2, "auto"])
def test_a_recorded_fit_predicts_what_any_other_does(forget_rate, table, monkeypatch, at_once):
    expected = fit(table, forget_rate=forget_rate)
    tapes = Tapes()
    monkeypatch.setitem(run.RECORDERS, "cpu", tapes)
    recorded = fit(table, forget_rate=forget_rate)
    # both pairs of the cross-fit have blocks of one form; the learning rate is rounded to float32
    assert len(tapes.all) == (1 if forget_rate == 0.2 else 3)
    assert recorded.forget_rate_ == pytest.approx(expected.forget_rate_, rel=1e-6)
    torch.testing.assert_close(recorded.predict_proba(table[0]), expected.predict_proba(table[0]), rtol=1e-5, atol=1e-6)
    again = fit(table, forget_rate=forget_rate)
    assert (again.predict_proba(table[0]) == recorded.predict_proba(table[0])).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"augment": nn.Identity()},
        {"average_decay": 0.9},
        {"optimizer": torch.optim.SGD},
        {"optimizer": torch.optim.AdamW},
        {"optimizer__fused": False},
        {"precision": "bf16"},
        {"precision": "float64"},
        {"module": lambda n_features, n_classes: nn.Sequential(nn.Linear(n_features, n_classes), nn.Dropout(0.1))},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_what_may_run_python_or_move_its_tensors_in_a_step_is_not_recorded(parameters, table, tapes):
    fit(table)
    assert tapes.all
    tapes.all.clear()
    fit(table, **parameters)
    assert not tapes.all


def test_hooks_of_optimizers_are_called_at_every_step(table, tapes):
    called = []
    handle = register_optimizer_step_post_hook(lambda *arguments: called.append(1))
    try:
        fit(table, epochs=3)
    finally:
        handle.remove()
    assert not tapes.all and len(called) == 3 * STEPS


def test_short_fits_are_not_recorded(table, monkeypatch):
    tapes = Tapes()
    monkeypatch.setitem(run.RECORDERS, "cpu", tapes)
    n_epochs = math.ceil(capture.EAGER_STEPS / STEPS)
    fit(table, epochs=n_epochs)
    assert not tapes.all
    fit(table, epochs=n_epochs + 1)
    assert len(tapes.all) == 1


def test_partial_fit_goes_on_from_a_recorded_fit(table, tapes):
    classifier = fit(table)
    assert tapes.all
    fresh = copy.deepcopy(classifier)
    for each in (classifier, fresh):
        each.partial_fit(*table)
    assert (classifier.predict_proba(table[0]) == fresh.predict_proba(table[0])).all()
    assert classifier.n_iter_ == 7


def test_a_fit_drops_its_recordings_at_its_end(table, tapes, monkeypatch):
    runs, start = [], run.Run.start
    monkeypatch.setattr(run.Run, "start", lambda *arguments: runs.append(start(*arguments)) or runs[-1])
    gc.disable()
    try:
        fit(table)
        reference = weakref.ref(tapes.all.pop())
        assert reference() is None and not tapes.all  # though somebody keeps the run
    finally:
        gc.enable()


def test_callbacks_that_look_at_copies_do_not_disturb_a_recorded_fit(table, tapes):
    classifier = CoTeachingClassifier(forget_rate=0.2, epochs=4, random_state=0, batch_size=64, device="cpu")
    monitor = ScoringMonitor(scoring="neg_log_loss")
    watched = clone(classifier).set_callbacks(monitor).fit(*table)
    assert tapes.all
    assert (watched.predict_proba(table[0]) == classifier.fit(*table).predict_proba(table[0])).all()
    epochs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len({row["neg_log_loss"] for row in epochs}) == 4


class Interrupt(Tapes):
    """A recorder: Ctrl-C while recording, or in the middle of the replay with this number."""

    def __init__(self, replay=None):
        super().__init__()
        self.wanted = replay

    def __call__(self, function, inputs):
        if self.wanted is None:
            raise KeyboardInterrupt
        _, outputs = super().__call__(function, inputs)
        tape, replays = self.all[-1], itertools.count(1)

        def replay():
            if next(replays) == self.wanted:
                tape.calls = tape.calls[: len(tape.calls) // 2]
                tape.replay()
                raise KeyboardInterrupt
            tape.replay()

        return replay, outputs


@pytest.mark.parametrize(("replay", "n_done"), [(None, 1), (1, 1), (3, 3)])
def test_ctrl_c_keeps_the_epochs_done(replay, n_done, table, monkeypatch, at_once):
    monkeypatch.setitem(run.RECORDERS, "cpu", Interrupt(replay))
    classifier = CoTeachingClassifier(
        forget_rate=0.2, epochs=6, random_state=0, batch_size=64, device="cpu", num_gradual=1, epoch_decay_start=6
    )
    expected = clone(classifier).set_params(epochs=n_done, epoch_decay_start=n_done)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(*table)
    assert classifier.n_iter_ == n_done
    monkeypatch.setitem(run.RECORDERS, "cpu", Tapes())
    assert (classifier.predict_proba(table[0]) == expected.fit(*table).predict_proba(table[0])).all()


# --- on a GPU --------------------------------------------------------------------------------------------------------


@needs_cuda
def test_a_cuda_graph_replays_with_the_numbers_of_now():
    place, tensor = torch.ones(3, device="cuda"), torch.tensor(2.0, device="cuda")
    replay, (product,) = record_on_cuda(lambda x: (x * tensor,), (place,))
    tensor.fill_(10)
    place.fill_(3)
    replay()
    assert product.tolist() == [30, 30, 30]


@needs_cuda
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=lambda each: each.__name__))
def test_training_by_cuda_graphs_has_the_bits_of_launching_kernel_by_kernel(activation, at_once):
    device = torch.device("cuda")
    data = make_data(device, torch.float32)
    networks = [make_networks(activation, device, torch.float32) for _ in range(2)]
    recorded, plain = make_training(record_on_cuda, networks[0]), make_training(None, networks[1])
    assert same(train(recorded, data), train(plain, data))
    assert all(map(torch.equal, weights_of(networks[0]), weights_of(networks[1])))
    assert len(recorded._graphs._recordings) == 1


@needs_cuda
def test_every_shape_of_block_has_a_cuda_graph(at_once, monkeypatch):
    monkeypatch.setattr(CoTeaching, "_block_size", lambda co_teaching, data: 2 * BATCH_SIZE)
    device = torch.device("cuda")
    data, networks = make_data(device, torch.float32), [make_networks(nn.ReLU, device, torch.float32) for _ in range(2)]
    recorded, plain = make_training(record_on_cuda, networks[0]), make_training(None, networks[1])
    assert same(train(recorded, data), train(plain, data))
    assert len(recorded._graphs._recordings) == 2


#: In a process of its own, as a failed recording may leave torch's state in disorder.
FAILING = """
import torch
from skcoteach.capture import record_on_cuda
x = torch.ones(3, device="cuda")
stream = torch.cuda.current_stream()
try:
    record_on_cuda(lambda x: (x * x.sum().item(),), (x,))
except RuntimeError:
    pass
else:
    raise SystemExit("recorded what cannot be")
assert torch.cuda.current_stream() == stream
assert (x * 2).tolist() == [2] * 3
"""


@needs_cuda
def test_a_recording_that_fails_on_cuda_leaves_a_device_that_computes():
    subprocess.run([sys.executable, "-c", FAILING], check=True)


@needs_cuda
def test_a_fit_on_cuda_is_recorded_and_predicts_what_any_other_does(table, monkeypatch, at_once):
    on_cuda = torch.tensor(table[0], device="cuda"), table[1]
    recorded_functions = []

    def counted(function, inputs):
        recorded_functions.append(function)
        return record_on_cuda(function, inputs)

    monkeypatch.setitem(run.RECORDERS, "cuda", counted)
    recorded = fit(on_cuda, epochs=20, device="cuda")
    assert len(recorded_functions) == 1
    monkeypatch.delitem(run.RECORDERS, "cuda")
    expected = fit(on_cuda, epochs=20, device="cuda")
    torch.testing.assert_close(recorded.predict_proba(table[0]), expected.predict_proba(table[0]), rtol=1e-4, atol=1e-5)
