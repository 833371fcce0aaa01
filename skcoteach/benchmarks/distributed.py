"""Several processes that train together: as good as one, what becomes of the others when one is lost, and how fast.

Every part can be left out by ``--skip``. The processes are of one thread each, on this machine.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from joblib import dump, load
from torch import Tensor, nn
from torch.utils.data import Dataset

from skcoteach import CoTeachingClassifier, _checkpoint
from skcoteach._training.distributed import joined
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.data import digit_images, digits
from skcoteach.benchmarks.options import count, new_file
from skcoteach.benchmarks.reliability import bits
from skcoteach.networks import SmallCNN

#: Within which the others must have ended when one is lost.
SECONDS_TO_END = 60
PARTS = ("exact", "accuracy", "kills", "errors", "messages", "speed")
#: A fit of some seconds whose steps are short.
KILLED: dict[str, Any] = {"epochs": 12, "random_state": 0, "batch_size": 256, "average_decay": 0.9}
#: Of the comparison of speeds: images like those of MNIST, and a network that has something to compute.
N_IMAGES, WIDTH, BATCH_SIZE = 4096, 32, 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    parser.add_argument("--processes", nargs="+", type=count, default=[1, 2, 4], help="of the exact part (1 2 4)")
    parser.add_argument("--seeds", type=count, default=10, help="of the accuracy in single precision (10)")
    parser.add_argument("--kills", type=count, default=20, help="(20)")
    parser.add_argument("--rounds", type=count, default=7, help="of the comparison of speeds (7)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


# --- in processes of their own ---------------------------------------------------------------------------------------


def _start(work: Callable, size: int, folder: Path, *arguments: Any) -> list:
    """So many processes of a group, which have just begun with the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skcoteach.benchmarks.distributed"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = context.Barrier(size + 1)
    processes = [
        context.Process(target=_in_group, args=(work, rank, size, port, folder, begun, *arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    begun.wait(timeout=120)
    return processes


def _in_group(work: Callable, rank: int, size: int, port: int, folder: Path, begun: Any, *arguments: Any) -> None:
    """Write what the work returns, or the error that it raises, and when."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(size))
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    begun.wait()
    start = time.monotonic()
    try:
        found = work(folder, *arguments)
    except Exception as error:
        found = error
    dump((found, time.monotonic() - start, time.time()), folder / f"{rank}.joblib")
    os._exit(0)  # a group of which one is lost cannot be left in order


def _results(processes: list, folder: Path) -> list[tuple[Any, float, float]]:
    """Of all that have come to their end."""
    for process in processes:
        process.join()
    files = [folder / f"{rank}.joblib" for rank in range(len(processes))]
    return [load(file) for file in files if file.exists()]


def _together(work: Callable, size: int, *arguments: Any) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        processes = _start(work, size, Path(folder), *arguments)
        found = [each for each, *_ in _results(processes, Path(folder))]
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found


# --- as good as one --------------------------------------------------------------------------------------------------


def _data(name: str, seed: int) -> tuple[Any, ...]:
    split = (digit_images if name == "images" else digits)(seed)
    X_train, X_test, y_train, y_test = split
    return X_train, noisy_labels(y_train, transition_matrix("pair", 0.2, 10), 8000 + seed), X_test, y_test


def _estimator(name: str, **parameters: Any) -> CoTeachingClassifier:
    network: dict[str, Any] = {"module": SmallCNN, "module__width": 8} if name == "images" else {}
    return CoTeachingClassifier(epochs=20, **network, **parameters)


def _numbers(folder: Path, name: str, seed: int, distributed: bool, parameters: dict) -> dict[str, Any]:
    X, given, X_test, y_test = _data(name, seed)
    fitted = _estimator(name, random_state=seed, distributed=distributed, **parameters).fit(X, given)
    return {
        "probabilities": fitted.predict_proba(X_test),
        "label quality": fitted.label_quality_,
        "noise rate": np.array([getattr(fitted, "noise_rate_", 0.0)]),
        "accuracy": fitted.score(X_test, y_test),
        "bits": bits(fitted, X_test),
    }


def exact(options: argparse.Namespace) -> dict[str, Any]:
    """Largest differences from a fit by one process without a group, double precision, 20 epochs"""
    figures, rows = {}, []
    for name in ("table", "images"):
        for parameters in ({"forget_rate": 0.2}, {}):
            alone = _numbers(Path(), name, 0, False, parameters | {"precision": "float64"})
            for size in options.processes:
                found = _together(_numbers, size, name, 0, True, parameters | {"precision": "float64"})
                of_parts = {
                    part: float(np.abs(found[0][part] - alone[part]).max())
                    for part in ("probabilities", "label quality", "noise rate")
                }
                alike = len({each["bits"] for each in found}) == 1
                what = f"{name}, {'auto' if not parameters else 'rate given'}, {size} processes"
                figures[what] = of_parts | {"all have the same bits": alike}
                rows.append([what, *(f"{value:.1e}" for value in of_parts.values()), "yes" if alike else "NO"])
    show(table(["digits", "probabilities", "label quality", "noise rate", "same bits"], rows))
    return figures


def accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy of digits, single precision, 20 % pair noise, estimated: two processes less one"""
    pairs = []
    for seed in range(options.seeds):
        alone = _numbers(Path(), "table", seed, False, {})["accuracy"]
        pairs.append((alone, _together(_numbers, 2, "table", seed, True, {})[0]["accuracy"]))
    mean, error = mean_and_error([two - one for one, two in pairs])
    show(f"{mean:+.4f} ± {error:.4f}")
    return {"one, two": pairs}


# --- when one is lost ------------------------------------------------------------------------------------------------


def _checkpointed(folder: Path, states: Path, parameters: dict[str, Any]) -> str:
    _checkpoint.SECONDS_BETWEEN_WRITES = 0.0
    X, given, X_test, _ = _data("table", 0)
    estimator = CoTeachingClassifier(checkpoint=states, distributed=True, **parameters)
    return bits(estimator.fit(X, given), X_test)


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """SIGKILL of one of three at a random moment, cross-fit included: the others, and the same fit begun again"""
    rng, size = np.random.default_rng(0), 3
    figures: dict[str, Any] = dict.fromkeys(("tried", "others without a clear error", "other bits"), 0)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as made:
        for number in range(2):  # the first one loads what the others find loaded
            start = time.monotonic()
            expected = _together(_checkpointed, size, Path(made) / str(number), KILLED)
            whole = time.monotonic() - start
    words: dict[str, int] = {}
    while figures["tried"] < options.kills:
        with tempfile.TemporaryDirectory() as made:
            folder, states = Path(made), Path(made) / "states"
            processes = _start(_checkpointed, size, folder, states, KILLED)
            time.sleep(rng.uniform(0, whole))
            lost = int(rng.integers(size))
            if any(not each.is_alive() for each in processes):
                _results(processes, folder)
                continue  # they were faster
            os.kill(processes[lost].pid, signal.SIGKILL)
            killed = time.time()
            for each in processes:
                each.join(SECONDS_TO_END)
            waiting = [each for each in processes if each.is_alive()]
            for each in waiting:
                each.kill()
            told = [(found, end) for found, _, end in _results(processes, folder)]
            clear = [end for found, end in told if isinstance(found, RuntimeError) and "distributed=True" in str(found)]
            for found, _ in told:
                text = str(found).partition(" (gloo")[0][:90]
                words[text] = words.get(text, 0) + 1
            seconds += [end - killed for end in clear]
            figures["tried"] += 1
            figures["others without a clear error"] += size - 1 - len(clear)
            figures["other bits"] += _together(_checkpointed, size, states, KILLED) != expected
    figures |= {"seconds until the last one ended": max(seconds, default=0.0), "words": words}
    show(str(figures))
    return figures


class _FailingNetwork(nn.Module):
    def __init__(self, n_features: int, n_classes: int):
        super().__init__()
        self.layer, self.n_calls = nn.Linear(n_features, n_classes), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.n_calls += 1
        if dist.get_rank() == 1 and self.n_calls > 40:
            raise OSError("raised by forward")
        return self.layer(inputs)


class _FailingRows(Dataset):
    def __init__(self, X: np.ndarray):
        self.X, self.n_asked = X, 0

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, number: int) -> Tensor:
        self.n_asked += 1
        if dist.get_rank() == 1 and self.n_asked > 5000:
            raise OSError("raised by the Dataset")
        return torch.from_numpy(self.X[number])


class _FailingCallback:
    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to close."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to note."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """After an epoch."""
        if context.task_name == "epoch":
            raise OSError("raised by the callback")


def _fails(folder: Path, where: str, states: Path) -> None:
    X, given, *_ = _data("table", 0)
    estimator = CoTeachingClassifier(
        _FailingNetwork if where == "forward" else None,
        forget_rate=0.2, epochs=12, random_state=0, checkpoint=states, distributed=True,
    )  # fmt: skip
    if where == "callback" and dist.get_rank() == 0:
        estimator.set_callbacks(_FailingCallback())
    estimator.fit(_FailingRows(X.astype(np.float32)) if where == "Dataset" else X, given)


def errors(options: argparse.Namespace) -> dict[str, Any]:
    """An error in one of three processes: what the others raise, and after how many seconds"""
    figures: dict[str, Any] = {}
    for where in ("forward", "Dataset", "callback"):
        with tempfile.TemporaryDirectory() as made:
            processes = _start(_fails, 3, Path(made), where, Path(made) / "states")
            results = _results(processes, Path(made))
        ends = [end for *_, end in results]
        own = next(end for found, _, end in results if isinstance(found, OSError))
        others = [str(found) for found, *_ in results if not isinstance(found, OSError)]
        figures[where] = {"others": others, "seconds after": round(max(ends) - own, 2)}
        show(f"{where}: {figures[where]}")
    return figures


# --- how fast --------------------------------------------------------------------------------------------------------


def _exchanged(folder: Path, n_gathered: int, n_summed: int) -> list[float]:
    """Seconds of the two messages of a step, of so many float32 numbers of each process."""
    with joined(True) as processes:
        part, parameter = torch.zeros(1, n_gathered), nn.Parameter(torch.zeros(n_summed))
        parameter.grad = torch.zeros(n_summed)
        seconds = []
        for _ in range(60):
            start = time.perf_counter()
            processes.gathered(part, n_gathered * processes.size)
            processes.add_gradients([[parameter]])
            seconds.append(time.perf_counter() - start)
    return seconds[10:]


def messages(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of the messages of a step between two processes, by the numbers gathered and added up"""
    figures = {}
    for n_gathered, n_summed in ((1280, 40_000), (1280, 1_000_000), (1280, 22_000_000), (128_000, 40_000)):
        seconds = np.median(_together(_exchanged, 2, n_gathered, n_summed)[0])
        figures[f"{n_gathered} gathered, {n_summed} added up"] = round(float(seconds), 6)
        show(f"{n_gathered:>9,} {n_summed:>12,}: {1000 * seconds:.2f}")
    return figures


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((N_IMAGES, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, N_IMAGES)


def _fit_images(folder: Path, distributed: bool) -> float:
    """Seconds of two epochs, after one that is not counted."""
    X, y = _images()
    estimator = CoTeachingClassifier(
        SmallCNN, module__width=WIDTH, forget_rate=0.2, batch_size=BATCH_SIZE, epochs=3, random_state=0,
        distributed=distributed,
    )  # fmt: skip
    dist.barrier()
    history = estimator.fit(X, y).history_
    return sum(entry["duration"] for entry in history[1:])


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of two processes that train together, as a share of two fits beside each other"""
    seconds: dict[str, list[float]] = {"together": [], "beside each other": []}
    for _ in range(options.rounds):
        for name, distributed in (("together", True), ("beside each other", False)):
            seconds[name].append(max(_together(_fit_images, 2, distributed)))
    shares = np.divide(seconds["beside each other"], 2 * np.array(seconds["together"]))
    low, median, high = np.percentile(shares, (25, 50, 75))
    what = f"SmallCNN(width={WIDTH}), {N_IMAGES} images of 28 x 28, batches of {BATCH_SIZE}"
    show(f"{what}: {median:.2f} ({low:.2f}-{high:.2f})")
    return {"seconds": seconds, "share": round(float(median), 3)}


def run(options: argparse.Namespace) -> None:
    """Run the parts and print what comes of them; store all single figures if asked to."""
    found = {}
    for name, part in zip(PARTS, (exact, accuracy, kills, errors, messages, speed), strict=True):
        if name not in options.skip:
            show(f"\n{(part.__doc__ or '').splitlines()[0]}:\n")
            found[name] = part(options)
    if options.json:
        given = [*(["--skip", *options.skip] if options.skip else []), "--processes", *map(str, options.processes)]
        given += ["--seeds", str(options.seeds), "--kills", str(options.kills), "--rounds", str(options.rounds)]
        write_json(options.json, ["distributed", *given], found)
