"""Kills, interrupts, bad input, and hundreds of fits in one process: what was promised is counted.

Every part says how often it tried and how often a promise was broken; the bits of every fit that was killed are
compared with those of one that was not. Processes are killed and watched as Linux does it.
"""

import argparse
import contextlib
import copy
import gc
import hashlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skcoteach import CoTeachingClassifier, _checkpoint, _state_file
from skcoteach.benchmarks import generated
from skcoteach.benchmarks.common import noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.options import count, new_file

#: Epochs of the fits that are killed, of those in a search, and of those that are interrupted.
EPOCHS, EPOCHS_IN_SEARCH, EPOCHS_INTERRUPTED = 60, 30, 20
#: Twelve fits, and that of the best.
GRID = {"lr": [5e-4, 1e-3, 2e-3, 4e-3]}
FOLDS = 3
#: Of memory that the last fits may hold beyond the first, and how many are the first.
GROWTH, WARMING_UP = 0.02, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is tried (all)")
    parser.add_argument("--kills", type=count, default=50, help="of single fits (50)")
    parser.add_argument("--searches", type=count, default=10, help="that are killed (10)")
    parser.add_argument("--interrupts", type=count, default=50, help="of fits (50)")
    parser.add_argument("--inputs", type=count, default=10_000, help="generated cases (10,000)")
    parser.add_argument("--fits", type=count, default=200, help="in one process, and as many that fail (200)")
    parser.add_argument("--seed", type=int, default=0, help="of all moments and cases (0)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def run(options: argparse.Namespace) -> None:
    """Print what was tried and what was broken; store it if asked to."""
    torch.set_num_threads(1)
    figures = {}
    for name in options.parts:
        start = time.perf_counter()
        figures[name] = PARTS[name](options) | {"seconds": round(time.perf_counter() - start)}
        show(f"{name}: {figures[name]}")
    show("\n" + rendered(figures))
    if options.json:
        sizes = [f"--{name} {getattr(options, name)}" for name in ("kills", "searches", "interrupts", "inputs", "fits")]
        command = ["reliability", "--parts", *options.parts, *sizes, f"--seed {options.seed}"]
        write_json(options.json, command, {"figures": figures})


def rendered(figures: dict[str, dict]) -> str:
    """A row for each part."""
    rows = []
    for name, found in figures.items():
        details = ", ".join(
            f"{key} {value}" for key, value in found.items() if key not in ("tried", "broken", "seconds")
        )
        rows.append([name, str(found["tried"]), str(found["broken"]), details, str(found["seconds"])])
    return table(["part", "tried", "promises broken", "", "seconds"], rows)


# --- what is fitted --------------------------------------------------------------------------------------------------


def example() -> tuple[np.ndarray, np.ndarray]:
    """600 handwritten digits, of which a fifth are called by the next digit's name."""
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.float32), noisy_labels(y[:600], transition_matrix("pair", 0.2, 10), seed=0)


def classifier(**parameters: Any) -> CoTeachingClassifier:
    """What is fitted to it."""
    return CoTeachingClassifier(**{"epochs": EPOCHS, "random_state": 0, **parameters})


def bits(estimator: CoTeachingClassifier, X: np.ndarray) -> str:
    """Of all that a fit has found out."""
    found = hashlib.blake2b(estimator.predict_proba(X).tobytes(), digest_size=16)
    for name in ("kept_frequency_", "label_quality_", "noise_matrix_", "forget_rate_schedule_"):
        found.update(getattr(estimator, name, np.empty(0)).tobytes())
    history = [{key: value for key, value in entry.items() if key != "duration"} for entry in estimator.history_]
    found.update(repr((history, estimator.temperature_, estimator.n_iter_)).encode())
    return found.hexdigest()


class Log:
    """A scikit-learn callback that notes every epoch that was trained in a file, in one line."""

    def __init__(self, file: Path):
        self.file = file

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to close."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to note."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        """Note the number of epochs done."""
        if context.task_name == "epoch":
            with open(self.file, "a") as opened:
                opened.write(f"{fitted_estimator.n_iter_}\n")

    def epochs(self) -> list[int]:
        """What was noted."""
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []


# --- in processes of their own ---------------------------------------------------------------------------------------


def _processes() -> Any:
    """Forked from a process that has imported all and computed nothing: they start fast, and torch can be used."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skcoteach.benchmarks.reliability"])
    return context


def _fit_alone(folder: Path, begun: Any) -> None:
    _checkpoint.SECONDS_BETWEEN_WRITES = 0.0
    torch.set_num_threads(1)
    X, given = example()
    estimator = classifier(checkpoint=folder / "states").set_callbacks(Log(folder / "log"))
    begun.set()
    (folder / "bits").write_text(bits(estimator.fit(X, given), X))


def _search_alone(folder: Path, begun: Any) -> None:
    os.setsid()  # with the workers of joblib, which are to be killed, too
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # in a forked process joblib leaves it a folder to remove
    X, given = example()
    estimator = classifier(forget_rate=0.2, epochs=EPOCHS_IN_SEARCH, checkpoint=folder / "states")
    search = GridSearchCV(estimator.set_callbacks(Log(folder / "log")), GRID, cv=FOLDS, n_jobs=2)
    begun.set()
    results = search.fit(X, given).cv_results_
    kept = {name: np.asarray(value).tolist() for name, value in results.items() if "time" not in name}
    (folder / "bits").write_text(repr(kept))
    get_reusable_executor().shutdown()  # the process would wait until they get tired


def _run(what: Callable, folder: Path, kill_after: float | None = None) -> bool:
    """Run it in a process; whether it came to its end."""
    processes = _processes()
    begun = processes.Event()
    process = processes.Process(target=what, args=(folder, begun))
    process.start()
    begun.wait(timeout=60)
    process.join(timeout=kill_after)
    if process.exitcode is None and kill_after is not None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if what is _search_alone else os.kill)(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == 0


def _states(folder: Path) -> tuple[int, int]:
    """Epochs that the files hold in all, the last one of each fit, and how many files cannot be read."""
    done: dict[str, int] = {}
    broken = 0
    files = [*(folder / "states").glob("*.checkpoint"), *(folder / "states").glob("*.previous")]
    for file in files:
        try:
            saved = _state_file.read(file, f"checkpoint-{file.stem}")
            done.setdefault(file.stem, len(saved["training"]["history"]))
        except _state_file.UnusableFileError:
            broken += 1
    return sum(done.values()), broken


def _killed(what: Callable, n_kills: int, n_epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill it as often at random moments, and run it to its end each time."""
    figures = dict.fromkeys(("tried", "broken", "after epoch 0", "files unreadable", "trained twice", "other bits"), 0)
    with tempfile.TemporaryDirectory() as made:
        reference = Path(made)
        _run(what, reference)  # the first process loads what the others find loaded
        (reference / "log").unlink()
        for file in (reference / "states").iterdir():
            file.unlink()
        start = time.perf_counter()
        _run(what, reference)
        seconds = time.perf_counter() - start
        expected = (reference / "bits").read_text()
    while figures["tried"] < n_kills:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            if _run(what, folder, kill_after=seconds * rng.beta(2, 1)):  # rather late, after the estimate
                continue  # it was faster
            log = Log(folder / "log")
            before, (done, unreadable) = len(log.epochs()), _states(folder)
            _run(what, folder)
            again = log.epochs()[before:]
            figures["tried"] += 1
            figures["after epoch 0"] += done > 0
            figures["files unreadable"] += unreadable
            figures["trained twice"] += len(again) != n_epochs - done or (
                what is _fit_alone and again[:1] != [done + 1][: n_epochs - done]
            )
            figures["other bits"] += (folder / "bits").read_text() != expected
    figures["broken"] = figures["files unreadable"] + figures["trained twice"] + figures["other bits"]
    return figures


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """SIGKILL at random moments of a fit, the cross-fit included; each is run again to its end."""
    return _killed(_fit_alone, options.kills, EPOCHS, np.random.default_rng(options.seed))


def searches(options: argparse.Namespace) -> dict[str, Any]:
    """SIGKILL of a search of twelve fits in two processes; each is run again to its end."""
    n_epochs = EPOCHS_IN_SEARCH * (len(GRID["lr"]) * FOLDS + 1)
    return _killed(_search_alone, options.searches, n_epochs, np.random.default_rng(options.seed))


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pressed_after(seconds: float) -> Iterator[None]:
    """Ctrl-C so many seconds from now, unless the block is left before."""

    def press(number: int, frame: FrameType | None) -> None:
        if frame is not None and "coverage" in Path(frame.f_code.co_filename).parts:
            signal.setitimer(signal.ITIMER_REAL, 0.001)  # where coverage is measured, its lock would be held for ever
        else:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, press)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    hook, sys.unraisablehook = sys.unraisablehook, lambda lost: None  # in a weak reference's callback Python loses it
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = hook


class _StopAfter(Log):
    """Stops after so many epochs."""

    def __init__(self, epochs: int):
        self.n_epochs = epochs

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> Any:
        """Whether it is enough."""
        return context.task_name == "epoch" and fitted_estimator.n_iter_ >= self.n_epochs


def _global_state() -> Any:
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        list(warnings.filters),
    )


def interrupts(options: argparse.Namespace) -> dict[str, Any]:
    """SIGINT at random moments: the earlier fit, or a whole one of the epochs done, and the process as it was."""
    X, given = example()
    estimator = classifier(epochs=EPOCHS_INTERRUPTED)
    start = time.perf_counter()
    whole = {
        n: bits(copy.copy(estimator).set_callbacks(_StopAfter(n)).fit(X, given), X)
        for n in range(1, EPOCHS_INTERRUPTED + 1)
    }
    seconds = (time.perf_counter() - start) / len(whole)
    earlier = classifier(epochs=2, forget_rate=0.1).fit(X[::2], given[::2])
    figures = dict.fromkeys(("tried", "broken", "earlier fit", "epochs done"), 0)
    rng = np.random.default_rng(options.seed)
    while figures["tried"] < options.interrupts:
        before, state = copy.copy(earlier).set_params(**estimator.get_params()), _global_state()
        own = copy.copy(before)
        try:
            with pressed_after(rng.uniform(0, seconds)):
                own.fit(X, given)
            continue  # it was faster
        except KeyboardInterrupt:
            pass
        is_earlier = vars(own).keys() == vars(before).keys() and all(
            value is vars(before)[name] for name, value in vars(own).items()
        )
        figures["tried"] += 1
        figures["earlier fit"] += is_earlier
        figures["epochs done"] += not is_earlier
        figures["broken"] += _global_state() != state or not (is_earlier or bits(own, X) == whole[own.n_iter_])
    return figures


# --- bad input -------------------------------------------------------------------------------------------------------


def inputs(options: argparse.Namespace) -> dict[str, Any]:
    """Generated cases of good and bad input."""
    figures: dict[str, Any] = {"tried": 0, "broken": 0}
    first = options.seed * 1_000_000
    for seed in range(first, first + options.inputs):
        figures["tried"] += 1
        try:
            kinds = generated.run_cases([seed])
        except generated.Violation as violation:
            figures["broken"] += 1
            show(str(violation))
            continue
        for kind, number in kinds.items():
            figures[kind] = figures.get(kind, 0) + number
    return figures


# --- many fits in one process ----------------------------------------------------------------------------------------


def _held() -> dict[str, int]:
    """What the process holds: resident memory in kB, handles, threads, children."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "children": len(children),
    }


def _fit(X: np.ndarray, given: np.ndarray) -> None:
    classifier(epochs=2).fit(X, given).predict(X)


def _fail(X: np.ndarray, given: np.ndarray) -> None:
    with contextlib.suppress(ValueError):
        classifier(epochs=3, lr=1e30, forget_rate=0.1).fit(X, given)
    with contextlib.suppress(ValueError):
        classifier(epochs=2).fit(np.where(X > 15, np.nan, X), given)


def _search(X: np.ndarray, given: np.ndarray) -> None:
    GridSearchCV(classifier(epochs=1, forget_rate=0.1), {"lr": [1e-3, 1e-2]}, cv=2).fit(X, given)


def _many(folder: Path, begun: Any) -> None:
    torch.set_num_threads(1)
    begun.set()
    X, given = (each[:200] for each in example())
    n_fits = int((folder / "n_fits").read_text())
    found = {}
    for name, work, times in (("fit", _fit, n_fits), ("fail", _fail, n_fits), ("search", _search, n_fits // 4)):
        for number in range(times):
            if number == min(WARMING_UP, times // 2):
                found[f"{name}, first"] = _held()
            work(X, given)
        found[f"{name}, last"] = _held()
    (folder / "held").write_bytes(pickle.dumps(found))


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Fits, fits that fail, and a quarter as many small searches: what the process holds in the end."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "n_fits").write_text(str(options.fits))
        _run(_many, folder)
        found = pickle.loads((folder / "held").read_bytes())
    figures: dict[str, Any] = {"tried": 2 * options.fits + options.fits // 4, "broken": 0}
    for name in ("fit", "fail", "search"):
        first, last = found[f"{name}, first"], found[f"{name}, last"]
        growth = last["memory"] / first["memory"] - 1
        figures[f"{name}: memory"] = f"{growth:+.2%}"
        more = [key for key in ("handles", "threads", "children") if last[key] > first[key]]
        figures["broken"] += (growth > GROWTH) + len(more)
        if more:
            figures[f"{name}: more"] = ", ".join(more)
    return figures


# --- several at a time -----------------------------------------------------------------------------------------------


def _fit_in_process(folder: Path, begun: Any) -> None:
    torch.set_num_threads(1)
    begun.set()
    X, given = example()
    (folder / "bits").write_text(bits(classifier(epochs=4).fit(X, given), X))


def _bits_of_process(start_method: str) -> str:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        context: Any = multiprocessing.get_context(start_method)
        begun = context.Event()
        process = context.Process(target=_fit_in_process, args=(folder, begun))
        process.start()
        process.join(timeout=120)
        if process.exitcode is None:
            process.kill()
            return "hangs"
        return (folder / "bits").read_text() if process.exitcode == 0 else "fails"


def concurrency(options: argparse.Namespace) -> dict[str, Any]:
    """Four threads, a fork and a spawned process while another thread fits, pickles while it fits: the same bits."""
    X, given = example()
    estimator = classifier(epochs=4)
    reference = bits(copy.copy(estimator).fit(X, given), X)
    with ThreadPoolExecutor(4) as threads:
        own = [copy.copy(estimator) for _ in range(8)]
        found = {"threads": list(threads.map(lambda each: bits(each.fit(X, given), X), own))}
    stop = threading.Event()

    def fit_all_the_time() -> None:
        while not stop.is_set():
            busy.fit(X, given)

    busy = copy.copy(estimator).fit(X, given)
    thread = threading.Thread(target=fit_all_the_time)
    thread.start()
    try:
        found |= {method: [_bits_of_process(method) for _ in range(3)] for method in ("fork", "spawn", "forkserver")}
        found["pickles"] = [bits(pickle.loads(pickle.dumps(busy)), X) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    wrong = {name: sum(each != reference for each in some) for name, some in found.items()}
    figures: dict[str, Any] = {"tried": sum(map(len, found.values())), "broken": sum(wrong.values())}
    return figures | {name: f"{len(some) - wrong[name]} of {len(some)}" for name, some in found.items()}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    each.__name__: each for each in (kills, searches, interrupts, inputs, memory, concurrency)
}
