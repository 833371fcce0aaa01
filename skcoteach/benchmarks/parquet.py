"""Data on the disk: an epoch over Parquet files beside a bare scan of them and the same rows as a memory map.

Made rows of ten classes, 20 % of the given labels wrong, in files of 32,768 rows and row groups of 4,096, written
without compression. Each is measured in a process of its own: the fit (default network, one epoch, forget rate 0.2; it
reads all rows twice, once for the standardisation) and a scan by pyarrow that only decodes. Memory is the peak of what
is resident (of a memory map also what the system could drop at any time), less what was before the labels were read.
The files are made in the folder, first Parquet, then the memory map, dropped from the system's cache before each
measurement, and removed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skcoteach.benchmarks.common import noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.options import OptionError, count, need, new_file

N_CLASSES, NOISE_RATE = 10, 0.2
ROWS_PER_FILE, ROWS_PER_GROUP = 2**15, 2**12
#: Held out, to see that something was learnt.
N_TEST = 10_000
#: Of the state of a training, which the goal leaves out.
BYTES_PER_ROW = 60
GOAL = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of rows as float32 (2)")
    parser.add_argument("--columns", type=count, default=1000, help="(1000)")
    parser.add_argument("--folder", help="where there is room for that (the system's for temporary files)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def run(options: argparse.Namespace) -> None:
    """Print the table; store the figures if asked to."""
    need("pyarrow", "pyarrow", "parquet")
    n_rows = int(options.gigabytes * 1e9 / 4 / options.columns)
    if n_rows < 1000:
        raise OptionError(f"--gigabytes {options.gigabytes:g}: these are {n_rows} rows; at least 1000 are needed")
    if options.folder is not None and not Path(options.folder).is_dir():
        raise OptionError(f"--folder {options.folder}: there is no such folder")
    free = shutil.disk_usage(options.folder or tempfile.gettempdir()).free
    if free < 1.1e9 * options.gigabytes:
        raise OptionError(f"--gigabytes {options.gigabytes:g}: only {free / 1e9:.1f} are free in the folder")
    figures: dict[str, dict] = {}
    for kind, write, methods in (("Parquet", write_parquet, ("fit", "scan")), ("memory map", write_map, ("fit",))):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            start = time.perf_counter()
            write(Path(folder), n_rows, options.columns)
            show(f"{n_rows:,} rows of {options.columns:,} columns as {kind}: {time.perf_counter() - start:.0f} s")
            for method in methods:
                _drop_from_cache(Path(folder))
                figures[f"{method}, {kind}"] = _measured(method, kind, folder, options.columns)
    rows = [
        [
            name,
            f"{each['rows_per_second']:,.0f}",
            f"{each['growth'] / 1e6:,.0f}",
            f"{each['beyond'] / 1e6:,.0f}",
            f"{100 * each['accuracy']:.1f}" if "accuracy" in each else "",
        ]
        for name, each in figures.items()
    ]
    header = ["", "rows a second", "memory, MB", f"beyond y and {BYTES_PER_ROW} bytes a row, MB", "accuracy, %"]
    show("\n" + table(header, rows) + f"\n\nGoal: less than {GOAL} MB beyond.")
    if options.json:
        command = ["parquet", "--gigabytes", f"{options.gigabytes:g}", "--columns", str(options.columns)]
        write_json(options.json, command, {"rows": n_rows, "columns": options.columns, "figures": figures})


def made_rows(n_rows: int, n_columns: int, first: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """X float32, given and true labels, in parts as large as a file; the number of the first part is their seed."""
    centres = np.zeros((N_CLASSES, n_columns), dtype=np.float32)
    informative = min(20, n_columns)
    centres[:, :informative] = np.random.default_rng(0).normal(size=(N_CLASSES, informative))
    for number, start in enumerate(range(0, n_rows, ROWS_PER_FILE), first):
        rng = np.random.default_rng([1, number])
        n = min(ROWS_PER_FILE, n_rows - start)
        true = rng.integers(0, N_CLASSES, n)
        X = rng.standard_normal((n, n_columns), dtype=np.float32)
        X += centres[true]
        yield X, noisy_labels(true, transition_matrix("symmetric", NOISE_RATE, N_CLASSES), number), true


def write_parquet(folder: Path, n_rows: int, n_columns: int) -> None:
    """Files of several row groups."""
    import pyarrow as pa
    import pyarrow.parquet

    for number, (X, given, _) in enumerate(made_rows(n_rows, n_columns)):
        columns = {f"x{i}": np.ascontiguousarray(column) for i, column in enumerate(X.T)} | {"label": given}
        pa.parquet.write_table(
            pa.table(columns),
            folder / f"{number:05}.parquet",
            row_group_size=ROWS_PER_GROUP,
            compression="none",
            use_dictionary=False,
        )


def write_map(folder: Path, n_rows: int, n_columns: int) -> None:
    """X.npy and y.npy."""
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (n_rows, n_columns))
    labels, start = [], 0
    for part, given, _ in made_rows(n_rows, n_columns):
        X[start : start + len(part)] = part
        labels.append(given)
        start += len(part)
    np.save(folder / "y.npy", np.concatenate(labels))


def _drop_from_cache(folder: Path) -> None:
    for file in folder.iterdir():
        opened = os.open(file, os.O_RDONLY)
        os.fsync(opened)  # what is not written yet would stay
        os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(opened)


def _measured(method: str, kind: str, folder: str, n_columns: int) -> dict:
    program = (
        f"from skcoteach.benchmarks.parquet import measure; measure({method!r}, {kind!r}, {folder!r}, {n_columns})"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    return figures | {"beyond": figures["growth"] - figures["bytes_of_y"] - BYTES_PER_ROW * figures["rows"]}


def measure(method: str, kind: str, folder: str, n_columns: int) -> None:
    """Print, as JSON, what a fit or a scan of the files takes; in a process that has done nothing else."""
    import pyarrow.parquet

    from skcoteach import CoTeachingClassifier
    from skcoteach.data import ParquetRows

    rng = np.random.default_rng(0)
    small = CoTeachingClassifier(forget_rate=NOISE_RATE, epochs=1, random_state=0)
    small.fit(rng.normal(size=(256, n_columns)).astype(np.float32), np.arange(256) % N_CLASSES)  # loads what is loaded
    before = _resident("VmRSS")
    figures: dict = {}
    start = time.perf_counter()
    if method == "scan":
        n_rows, y = 0, np.empty(0)
        columns = [f"x{i}" for i in range(n_columns)]
        for file in sorted(Path(folder).glob("*.parquet")):
            with pyarrow.parquet.ParquetFile(file) as opened:
                for number in range(opened.metadata.num_row_groups):
                    n_rows += opened.read_row_group(number, columns=columns).num_rows
        figures["seconds"] = time.perf_counter() - start
    else:
        if kind == "Parquet":
            X = ParquetRows(folder, label="label")
            y = X.labels()
        else:
            X, y = np.load(f"{folder}/X.npy", mmap_mode="r"), np.load(f"{folder}/y.npy")
        figures["seconds_to_open"] = time.perf_counter() - start
        start = time.perf_counter()
        clf = CoTeachingClassifier(forget_rate=NOISE_RATE, epochs=1, random_state=0).fit(X, y)
        n_rows, figures["seconds"] = len(y), time.perf_counter() - start
        figures["seconds_of_epoch"] = clf.history_[0]["duration"]
    figures |= {
        "rows": n_rows,
        "rows_per_second": n_rows / figures["seconds"],
        "growth": _resident("VmHWM") - before,
        "bytes_of_y": y.nbytes,
    }
    if method == "fit":
        X_test, _, y_test = next(made_rows(N_TEST, n_columns, first=2**20))
        figures["accuracy"] = clf.score(X_test, y_test)
    print(json.dumps(figures))


def _resident(name: str) -> int:
    """Bytes, as Linux counts them: VmRSS now, VmHWM at most until now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError("memory can be measured on Linux only")
