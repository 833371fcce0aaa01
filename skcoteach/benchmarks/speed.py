"""Speed of fit beside the documented loop, skorch and a bare loop of two plain networks.

Every method trains two of the same networks on the same data for the same number of steps, from making the networks to
the last step. The methods take turns in one process, in an order that rotates from round to round; a figure is the
median over the rounds of the ratio of two methods' times in the same round. The documented loop is cleanlab's
``train``, run where the networks are; the bare loop does no selection at all.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import cross_val_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import show, table, write_json
from skcoteach.benchmarks.documented import train_epochs
from skcoteach.benchmarks.options import PRECISIONS, OptionError, count, need, new_file
from skcoteach.networks import MLP, CifarCNN, SmallCNN, Standardize
from skcoteach.schedules import default_num_gradual

FORGET_RATE = 0.2


@dataclass
class Workload:
    """What is trained on what, and for how long."""

    X: np.ndarray
    y: np.ndarray
    module: Callable[[], nn.Module] | None
    batch_size: int
    epochs: int
    module_parameters: dict = field(default_factory=dict)

    def network(self) -> nn.Module:
        """One of the two networks of the other methods."""
        if self.module is not None:
            return self.module()
        if self.X.ndim > 2:
            return SmallCNN(self.X.shape[1], int(self.y.max()) + 1, **self.module_parameters)
        network = MLP(self.X.shape[1], int(self.y.max()) + 1, **self.module_parameters)
        for layer in network:
            if isinstance(layer, Standardize):
                layer.observe(torch.from_numpy(self.X), torch.ones(len(self.X)))
        return network

    def estimator(self, device: str, precision: str = "float32") -> CoTeachingClassifier:
        """The estimator with all else at its defaults, but for a given forget rate: steps before it cannot be equal."""
        made = {f"module__{name}": value for name, value in self.module_parameters.items()}
        return CoTeachingClassifier(
            self.module,
            epochs=self.epochs,
            batch_size=self.batch_size,
            device=device,
            precision=precision,
            forget_rate=FORGET_RATE,
            random_state=0,
            **made,
        )


def _digits(n: int = 1792) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n]


def _images(n: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, *shape), dtype=np.float32), rng.integers(0, 10, n)


def _table(n: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_classification(n, 100, n_informative=20, n_classes=10, random_state=0)
    return X.astype(np.float32), y


def chain() -> nn.Module:
    """A user's plain chain of linear layers and activations."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


class Convolutional(nn.Module):
    """A user's convolutional network for images of 28×28."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.pool, self.last = nn.MaxPool2d(2), nn.Linear(32 * 7 * 7, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, 10)."""
        x = self.pool(torch.relu(self.first(x)))
        x = self.pool(torch.relu(self.second(x)))
        return self.last(x.flatten(1))


class Forward(nn.Module):
    """A user's chain of layers, written as a ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 128), nn.Linear(128, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, 10)."""
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class Residual(nn.Module):
    """A user's network that is no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(64, 128), nn.BatchNorm1d(128)
        self.second, self.last = nn.Linear(128, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, 10)."""
        x = torch.relu(self.norm(self.first(x)))
        return self.last(x + torch.relu(self.second(x)))


#: By name: how it is made, and whether it is for a GPU alone. Batch sizes divide the number of examples, so that every
#: method takes the same number of steps.
WORKLOADS: dict[str, tuple[Callable[[], Workload], bool]] = {
    "digits, MLP, batch 128": (lambda: Workload(*_digits(), None, 128, 60), False),
    "digits, MLP, batch 32": (lambda: Workload(*_digits(), None, 32, 15), False),
    "digits, user's chain, batch 128": (lambda: Workload(*_digits(), chain, 128, 60), False),
    "digits, user's chain, batch 32": (lambda: Workload(*_digits(), chain, 32, 15), False),
    "digits, user's forward, batch 128": (lambda: Workload(*_digits(), Forward, 128, 60), False),
    "digits, other module, batch 128": (lambda: Workload(*_digits(), Residual, 128, 60), False),
    "digits, other module, batch 32": (lambda: Workload(*_digits(), Residual, 32, 15), False),
    "MNIST-sized, small CNN, batch 128": (lambda: Workload(*_images(1024, 1, 28, 28), None, 128, 2), False),
    "MNIST-sized, user's CNN, batch 128": (lambda: Workload(*_images(1024, 1, 28, 28), Convolutional, 128, 2), False),
    "100,000 x 100, wide MLP, batch 128": (
        lambda: Workload(*_table(100_096), None, 128, 1, {"hidden": (512, 512)}),
        False,
    ),
    "CIFAR-sized, CifarCNN, batch 128": (lambda: Workload(*_images(12_800, 3, 32, 32), CifarCNN, 128, 2), True),
}


def documented(workload: Workload, device: str) -> None:
    """The loop of cleanlab's documentation, on this device instead of always on CUDA."""
    for _ in train_epochs(
        [workload.network().to(device) for _ in range(2)],
        workload.X,
        workload.y,
        forget_rate=FORGET_RATE,
        num_gradual=default_num_gradual(workload.epochs),
        epochs=workload.epochs,
        epoch_decay_start=workload.epochs * 80 // 250,
        batch_size=workload.batch_size,
        device=device,
    ):
        pass


def skorch(workload: Workload, device: str) -> None:
    """Two networks, one after the other, by skorch."""
    from skorch import NeuralNetClassifier

    for _ in range(2):
        NeuralNetClassifier(
            workload.network(),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            max_epochs=workload.epochs,
            batch_size=workload.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            device=device,
        ).fit(workload.X, workload.y)


def bare(workload: Workload, device: str, precision: str = "float32") -> None:
    """Two plain networks on indexed batches with fused Adam: no selection, nothing recorded."""
    X, y = torch.from_numpy(workload.X).to(device), torch.from_numpy(workload.y).to(device)
    networks = [workload.network().to(device) for _ in range(2)]
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-3, fused=True) for network in networks]
    for _ in range(workload.epochs):
        for rows in torch.randperm(len(X), device=device).split(workload.batch_size):
            inputs, targets = X[rows], y[rows]
            for network, optimizer in zip(networks, optimizers, strict=True):
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
                    loss = cross_entropy(network(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--workloads", nargs="+", metavar="PART", help='names, or parts of them, "digits" say (all)')
    parser.add_argument("--rounds", type=count, default=11, help="how often every method is timed (11)")
    parser.add_argument("--threads", type=count, default=2, help="of torch (2)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of fit and the bare loop (float32)")
    parser.add_argument(
        "--skip-parts", action="store_true", help="only the workloads: no prediction, memory, small fit"
    )
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def run(options: argparse.Namespace) -> None:
    """Print the tables; store all single times if asked to."""
    figures: dict[str, dict] = {}
    chosen = {
        name: make
        for name, (make, for_gpu) in WORKLOADS.items()
        if (options.device != "cpu" or not for_gpu)
        and (not options.workloads or any(part in name for part in options.workloads))
    }
    if not chosen:
        known = "; ".join(name + for_gpu * " (not on a CPU)" for name, (_, for_gpu) in WORKLOADS.items())
        raise OptionError(f"--workloads {' '.join(options.workloads)}: there are only {known}.")
    need("skorch", "skorch", "The comparison with skorch")
    torch.set_num_threads(options.threads)
    rows = []
    for name, make in chosen.items():
        figures[name] = times = _rounds(_methods(make(), options), options.rounds, options.device)
        ratios = {peer: np.divide(times[peer], times["fit"]) for peer in times if peer != "fit"}
        cells = {
            peer: "{1:.2f} ({0:.2f}-{2:.2f})".format(*np.percentile(each, (25, 50, 75)))
            for peer, each in ratios.items()
        }
        rows.append([name, f"{np.median(times['fit']):.3f}", *(cells.get(peer, "") for peer in PEERS)])
        show(f"{name}: {rows[-1][1:]}")
    show(
        f"\nSeconds of fit, and how many times as long the others take: median (quartiles) of {options.rounds} rounds\n"
    )
    show(table(["workload", "fit", *PEERS], rows) + "\n")
    parts: dict[str, object] = {}
    if not options.skip_parts:
        on_gpu = (utilisation,) if options.device != "cpu" else (memory,)
        for part in (prediction, small_fit, cross_validation, *on_gpu):
            figure = parts[part.__name__] = part(options)
            told = {name: value for name, value in figure.items() if name != "seconds"}
            show(f"{(part.__doc__ or '').splitlines()[0]} {told}")
    if options.json:
        given = ["--rounds", str(options.rounds), "--threads", str(options.threads), "--device", options.device]
        given += ["--precision", options.precision]
        if options.workloads:
            given += ["--workloads", *(f'"{part}"' for part in options.workloads)]
        write_json(options.json, ["speed", *given], {"seconds": figures, "parts": parts})


PEERS = ("documented", "skorch", "bare")


def _methods(workload: Workload, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    device, precision = options.device, options.precision

    return {
        "fit": lambda: workload.estimator(device, precision).fit(workload.X, workload.y),
        "documented": lambda: documented(workload, device),
        "skorch": lambda: skorch(workload, device),
        "bare": lambda: bare(workload, device, precision),
    }


def _rounds(methods: dict[str, Callable[[], object]], n_rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of every method in every round; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for turn in range(n_rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds = _seconds(methods[name], device)
            if turn:
                times[name].append(round(seconds, 5))
    return times


def _seconds(function: Callable[[], object], device: str = "cpu") -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def prediction(options: argparse.Namespace) -> dict:
    """Throughput of predict_proba as a share of that of a bare forward of both networks:"""
    X, y = _table(100_096)
    classifier = Workload(X, y, None, 128, 1, {"hidden": (512, 512)}).estimator(options.device).fit(X, y)
    inputs = torch.from_numpy(X).to(options.device)
    given: np.ndarray | Tensor = X if options.device == "cpu" else inputs

    def forward() -> None:
        with torch.no_grad():
            for chunk in inputs.split(8192):
                for network in classifier.modules_:
                    network(chunk).softmax(1)

    methods = {"predict_proba": lambda: classifier.predict_proba(given), "forward": forward}
    times = _rounds(methods, options.rounds, options.device)
    return {"share": round(float(np.median(np.divide(times["forward"], times["predict_proba"]))), 3), "seconds": times}


def utilisation(options: argparse.Namespace) -> dict:
    """Share of the card's measured rate of bfloat16 matrix products that a fit of CifarCNN reaches:"""
    workload = WORKLOADS["CIFAR-sized, CifarCNN, batch 128"][0]()
    a, b = (torch.randn(8192, 8192, device=options.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    rate = 2 * 8192**3 / float(np.median([_seconds(lambda: a @ b, options.device) for _ in range(options.rounds)]))
    with FlopCounterMode(display=False) as counter:
        CifarCNN()(torch.zeros(128, 3, 32, 32)).sum().backward()
    steps = workload.epochs * len(workload.y) // workload.batch_size
    times = []
    for _ in range(options.rounds + 1):
        fit = workload.estimator(options.device, "bf16")
        times.append(round(_seconds(lambda: fit.fit(workload.X, workload.y), options.device), 4))
    achieved = 2 * steps * counter.get_total_flops() / float(np.median(times[1:]))
    return {"share": round(achieved / rate, 3), "matrix_rate": rate, "achieved": achieved, "seconds": times[1:]}


def small_fit(options: argparse.Namespace) -> dict:
    """Seconds that a fit of 250 epochs on 200 examples takes longer than the same steps in a bare loop:"""
    X, y = _digits(200)
    workload = Workload(X, y, None, 128, 250)
    methods = {
        "fit": lambda: workload.estimator(options.device).fit(X, y),
        "bare": lambda: bare(workload, options.device),
    }
    times = _rounds(methods, options.rounds, options.device)
    return {"difference": round(float(np.median(np.subtract(times["fit"], times["bare"]))), 3), "seconds": times}


def cross_validation(options: argparse.Namespace) -> dict:
    """Time of a cross-validation with 5 folds on digits as a multiple of one fit:"""
    X, y = _digits()
    workload = Workload(X, y, None, 128, 60)
    methods = {
        "cross_val_score": lambda: cross_val_score(workload.estimator(options.device), X, y, cv=5),
        "fit": lambda: workload.estimator(options.device).fit(X, y),
    }
    times = _rounds(methods, options.rounds, options.device)
    return {"ratio": round(float(np.median(np.divide(times["cross_val_score"], times["fit"]))), 2), "seconds": times}


_MEMORY_SCRIPT = """
import sys, threading, time
import numpy as np
from skcoteach import CoTeachingClassifier

X = np.load(sys.argv[1], mmap_mode="r")
y = np.arange(len(X)) % 10

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

classifier = CoTeachingClassifier(forget_rate=0.2, epochs=1, batch_size=1024, device="cpu", random_state=0)
classifier.fit(np.asarray(X[:2000]), y[:2000])
before = highest = anonymous()
done = threading.Event()

def watch():
    global highest
    while not done.wait(0.02):
        highest = max(highest, anonymous())

thread = threading.Thread(target=watch)
thread.start()
classifier.fit(X, y)
done.set()
thread.join()
print(round(highest - before))
"""


def memory(options: argparse.Namespace) -> dict:
    """Growth of anonymous memory (RssAnon, MB) in a fit on a float64 memory map of 4 GB:"""
    rows, columns = 1_000_000, 500
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npy"
        X = np.lib.format.open_memmap(file, "w+", np.float64, (rows, columns))
        rng = np.random.default_rng(0)
        for start in range(0, rows, 10_000):
            X[start : start + 10_000] = rng.standard_normal((10_000, columns))
        X.flush()
        del X
        command = [sys.executable, "-c", _MEMORY_SCRIPT, str(file)]
        grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"megabytes": int(grown)}
