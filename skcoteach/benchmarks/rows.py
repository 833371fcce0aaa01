"""Many rows: the share of a fit's time that is not spent on steps, and the bytes that it needs for each row.

A table of random numbers with two classes that overlap, one label in five drawn anew, and the default network. All rows
and half of them are fitted, each in processes of their own with one thread; the difference of their memory, divided by
that of the rows, is what a row costs, so that neither libraries nor networks count. Time and memory are measured in
different processes: for the latter, glibc is told to give back at once what is freed.
"""

import argparse
import ctypes
import multiprocessing
import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import skcoteach
from skcoteach import CoTeachingClassifier
from skcoteach._training import crossfit, trainer
from skcoteach._training.steps import Steps
from skcoteach.benchmarks.common import show, table, write_json
from skcoteach.benchmarks.options import count, new_file, rate

#: Rows of the first fit of a process, after which all that is loaded late is there.
WARM_UP_ROWS = 1000
#: Of glibc: blocks of more bytes are given back when they are freed; so many.
M_MMAP_THRESHOLD, LARGE = -3, 2**18


def rate_or_auto(text: str) -> float | str:
    """A forget rate."""
    return text if text == "auto" else rate(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--rows", type=count, default=2_000_000, help="of X (2000000)")
    parser.add_argument("--columns", type=count, default=10, help="of X, float32 (10)")
    parser.add_argument("--epochs", type=count, default=2, help="of the fit (2)")
    parser.add_argument("--forget-rate", type=rate_or_auto, default=0.2, help='of the fit, or "auto" (0.2)')
    parser.add_argument("--batch-size", type=count, default=128, help="of the fit (128)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def run(options: argparse.Namespace) -> None:
    """Print the figures; store them if asked to."""
    parameters = {name: getattr(options, name) for name in ("forget_rate", "epochs", "batch_size")}
    of_fit = options.columns, parameters
    some = -(-options.rows // 2)
    few, many = (_in_a_process(bytes_of_fit, rows, *of_fit) for rows in (some, options.rows))
    bytes_a_row = {name: (many[name] - few[name]) / max(options.rows - some, 1) for name in many}
    seconds = _in_a_process(seconds_of_fit, options.rows, *of_fit)
    off_the_steps = seconds["other"] / seconds["fit"]
    show(
        f"{options.rows} rows of {options.columns} columns, batches of {options.batch_size}, {options.epochs} epochs, "
        f"forget rate {options.forget_rate}\n"
    )
    show(table(["seconds", *seconds], [["", *(f"{each:.2f}" for each in seconds.values())]]) + "\n")
    show(f"off the steps: {100 * off_the_steps:.1f} % of the time of the fit\n")
    show(table(["bytes a row", *bytes_a_row], [["", *(f"{each:.1f}" for each in bytes_a_row.values())]]))
    if options.json:
        given = ["--rows", str(options.rows), "--columns", str(options.columns), "--epochs", str(options.epochs)]
        given += ["--forget-rate", str(options.forget_rate), "--batch-size", str(options.batch_size)]
        sizes = {str(some): few, str(options.rows): many}
        figures = {"seconds": seconds, "off_the_steps": off_the_steps, "bytes_a_row": bytes_a_row, "bytes": sizes}
        write_json(options.json, ["rows", *given], {"figures": figures})


def _in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def seconds_of_fit(rows: int, columns: int, parameters: dict[str, Any]) -> dict[str, float]:
    """Seconds of a fit, in all and by what they are spent on."""
    classifier = _warmed_up(columns, parameters)
    X, y = example(rows, columns)
    clock = Clock()
    with clock.watching(Steps, "train", "steps"), clock.watching(crossfit, "predict", "predictions"):
        with clock.watching_blocks():
            start = time.perf_counter()
            classifier.fit(X, y)
            seconds = time.perf_counter() - start
    return {"fit": seconds, **clock.seconds, "other": seconds - sum(clock.seconds.values())}


def bytes_of_fit(rows: int, columns: int, parameters: dict[str, Any]) -> dict[str, int]:
    """Bytes beyond X, y and all else that was there before, at the peak of a fit; of a pickle, and of a saved file."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
    classifier = _warmed_up(columns, parameters)
    X, y = example(rows, columns)
    before = _start_of_peak()
    classifier.fit(X, y)
    peak = _peak() - before
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "classifier"
        skcoteach.save(classifier, file)
        saved = file.stat().st_size
    return {"peak of the fit": peak, "estimator": len(pickle.dumps(classifier)), "saved file": saved}


def _warmed_up(columns: int, parameters: dict[str, Any]) -> CoTeachingClassifier:
    """What is to be fitted, where all that a fit loads late is there."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    classifier = CoTeachingClassifier(random_state=0, **parameters)
    return classifier.fit(*example(WARM_UP_ROWS, columns)).forget_training_data()


def example(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """X of shape (rows, columns), float32, and given labels, int64."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns), dtype=np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    y[rng.random(rows, dtype=np.float32) < 0.2] ^= 1
    return X, y


class Clock:
    """Adds up the seconds that are spent in functions of the package.

    Attributes
    ----------
    seconds : dict of str to float
        By what they are spent on.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"steps": 0.0, "fetching": 0.0, "predictions": 0.0}

    def watching(self, owner: Any, name: str, what: str) -> Any:
        """While this context is entered, calls of this function count."""
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[what] += time.perf_counter() - start

        return mock.patch.object(owner, name, watched)

    def watching_blocks(self) -> Any:
        """While this context is entered, waiting for the blocks of an epoch counts as fetching."""
        stream = trainer.stream

        def watched(*args: Any) -> Iterator[Any]:
            blocks = stream(*args)
            while True:
                start = time.perf_counter()
                block = next(blocks, None)
                self.seconds["fetching"] += time.perf_counter() - start
                if block is None:
                    return
                yield block

        return mock.patch.object(trainer, "stream", watched)


def _start_of_peak() -> int:
    """Resident bytes now; from now on the peak counts, where Linux forgets the earlier one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    return _peak()


def _peak() -> int:
    """The most bytes that were resident."""
    with suppress(OSError):
        return _resident("VmHWM")
    import resource  # not there on Windows, which cannot be measured

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident(name: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024
