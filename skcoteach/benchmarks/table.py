"""The tables of the README, from the stored figures.

Without options, prints them. With ``--write``, puts each between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skcoteach.benchmarks import human
from skcoteach.benchmarks.accuracy import PEERS, final_accuracy, percent
from skcoteach.benchmarks.common import mean_and_error, show, table
from skcoteach.benchmarks.options import OptionError
from skcoteach.benchmarks.parquet import BYTES_PER_ROW
from skcoteach.benchmarks.reliability import rendered
from skcoteach.benchmarks.tables import TUNED_ON

RESULTS = Path(__file__).parent / "results"

#: Test accuracy in percent of the paper's tables 4 and 5: 200 epochs of the nine-layer network, mean of the last ten.
PUBLISHED = {
    ("mnist", "pair", 0.45): 87.63,
    ("mnist", "symmetric", 0.5): 91.32,
    ("mnist", "symmetric", 0.2): 97.25,
    ("cifar10", "pair", 0.45): 72.62,
    ("cifar10", "symmetric", 0.5): 74.02,
    ("cifar10", "symmetric", 0.2): 82.32,
}
NAMES = {
    "plain": "plain network",
    "documented": "documented loop",
    "true": "true rate given",
    "auto": "rate estimated",
    "cl-plain": "CleanLearning(plain)",
    "cl-auto": "CleanLearning(rate estimated)",
}
DATASETS = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
#: Named in a table only where they are others.
USUAL = {"recipe": "fast", "device": "cpu", "precision": "float32"}
#: Of the tables of KEEL.
FIGURES = {"accuracy": "accuracy", "log loss": "log_loss", "macro recall": "macro_recall"}


def digits() -> str:
    """Plain training and co-teaching on digits."""
    rows = []
    for cell, scores in _stored("digits")["accuracy"].items():
        kind, rate = cell.split()
        taken = "the next class" if kind == "pair" else "any other class"
        means = ("{:.3f} ± {:.3f}".format(*mean_and_error(scores[method])) for method in ("plain", "default"))
        rows.append([f"{float(rate):.0%}".replace("%", " %") + f" take {taken}", *means])
    return table(["wrong labels", "plain networks", "co-teaching"], rows)


def small_batches() -> str:
    """The class floor where a batch holds few examples of a class."""
    rows = []
    for name, file in {"10 classes, batches of 32": "digits-32", "100 classes, batches of 128": "digits-100"}.items():
        for cell, scores in _stored(file)["accuracy"].items():
            means = ("{:.3f} ± {:.3f}".format(*mean_and_error(each)) for each in scores.values())
            rows.append([f"{name}, {cell}", *means])
    return table(["data and noise", "plain networks", "class_floor=0", "default"], rows)


def noise() -> str:
    """Estimated noise rates, and how well the label issues are ranked."""
    digits_, mnist = (_stored(f"noise-{dataset}")["figures"][dataset] for dataset in ("digits", "mnist"))
    mnist |= _stored("noise-mnist-again")["figures"]["mnist"]  # after a fault was mended
    rows = []
    for cell in digits_:
        row = [cell]
        for runs in (digits_[cell], mnist[cell]):
            rates = ([run[name] for run in runs] for name in ("true_rate", "estimated_rate"))
            row.append("{:.3f} → {:.3f}".format(*map(np.mean, rates)))
            both = [run["average_precision"] for run in runs if "cv auto" in run["average_precision"]]
            precisions = (np.mean([each[name] for each in both]) for name in ("auto", "cv auto") if both)
            row.append(" / ".join(f"{precision:.3f}" for precision in precisions) or "–")
        rows.append(row)
    header = ["noise"]
    for name in ("digits", "MNIST"):
        header += [f"{name}: true rate → estimated", "label issues"]
    return table(header, rows)


def speed() -> str:
    """How many times as long as ``fit`` the others take."""
    rows = []
    for workload, seconds in _stored("speed-cpu")["seconds"].items():
        ratios = (np.divide(seconds[peer], seconds["fit"]) for peer in ("documented", "skorch", "bare"))
        rows.append(
            [workload, *("{1:.2f} ({0:.2f}–{2:.2f})".format(*np.percentile(each, (25, 50, 75))) for each in ratios)]
        )
    return table(["workload", "documented loop", "skorch, two fits", "bare loop"], rows)


def accuracy() -> str:
    """All methods on the same data, a row for each data set, noise and number of seeds."""
    rows_of: dict[tuple[str, int, float | None], dict[str, list[float]]] = {}
    for stored in _all("accuracy-*.json"):
        settings = stored["settings"]
        if _is_ablation(stored):
            continue
        whole = "limit" not in settings
        published = PUBLISHED.get((settings["dataset"], settings["noise"], settings.get("rate"))) if whole else None
        scores = rows_of.setdefault((_cell(stored), settings["seeds"], published), {})
        for run in stored["runs"]:
            scores.setdefault(run["method"], []).append(final_accuracy(run))
    methods = [method for method in PEERS if any(method in scores for scores in rows_of.values())]
    rows = [
        [cell, str(n_seeds), "–" if published is None else f"{published:.2f}"]
        + [percent(scores[method]) if method in scores else "–" for method in methods]
        for (cell, n_seeds, published), scores in rows_of.items()
    ]
    return table(["data, noise, epochs", "seeds", "paper, 200 epochs", *(NAMES[method] for method in methods)], rows)


def ablation() -> str:
    """What is lost without each part of the recipe."""
    stored = [each for each in _all("accuracy-*.json") if _is_ablation(each)]
    scores = [
        {
            method: [final_accuracy(run) for run in each["runs"] if run["method"] == method]
            for method in dict.fromkeys(run["method"] for run in each["runs"])
        }
        for each in stored
    ]
    rows = []
    for method in dict.fromkeys(method for each in scores for method in each):
        if method == "true":
            rows.append(["the recipe", *(percent(each["true"]) for each in scores)])
        else:
            rows.append([method.replace("-", " ", 1), *(_lost(each, method) for each in scores)])
    return table(["", *(_cell(each) for each in stored)], rows)


def comparison() -> str:
    """Accuracy on three tables, all labels right / 20 % wrong, beside what people use today."""
    runs = [run for name in ("tables-digits", "tables-default", "tables-peers") for run in _stored(name)["runs"]]
    methods = {"forest": "forest", "CleanLearning(forest)": "CleanLearning(forest)"}
    methods |= {"plain": "plain networks", "default": "**skcoteach**"}
    rows = []
    for name in ("digits", "german", "page-blocks0"):
        for noise_rate, label in ((0.0, "all right"), (0.2, "20 % wrong")):
            row = [name, label]
            for method in methods:
                own = [run for run in runs if (run["table"], run["method"]) == (name, method)]
                means = mean_and_error([run["accuracy"] for run in own if run["noise"] == noise_rate])
                row.append("{:.3f} ± {:.3f}".format(*means))
            rows.append(row)
    return table(["table", "labels", *methods.values()], rows)


def real_tables() -> str:
    """Accuracy on real tables beside plain networks and a forest; in the last rows the means, and those of log loss."""
    runs = _stored("tables-default")["runs"]
    runs += [run for run in _stored("tables-plain-159fabb")["runs"] if run["method"] == "forest"]
    noises, methods = sorted({run["noise"] for run in runs}), ("default", "plain", "forest")

    def means(names: list[str], figure: str = "accuracy") -> list[str]:
        cells = []
        for noise_rate in noises:
            own = [run for run in runs if run["noise"] == noise_rate and run["table"] in names]
            by_method = ([run[figure] for run in own if run["method"] == method] for method in methods)
            cells.append(" / ".join(f"{np.mean(values):.3f}" for values in by_method))
        return cells

    def error_of_rate(names: list[str]) -> str:
        found = [run for run in runs if run["method"] == "default" and run["table"] in names]
        return f"{np.mean([abs(run['noise_rate_'] - run['true_rate']) for run in found]):.3f}"

    every = list(dict.fromkeys(run["table"] for run in runs))
    rows = [[name + " *" * (name in TUNED_ON), *means([name]), error_of_rate([name])] for name in every]
    rows += [["mean", *means(every), error_of_rate(every)]]
    rows += [[f"mean {name}", *means(every, figure), ""] for name, figure in FIGURES.items() if figure != "accuracy"]
    wrong = [f"{noise_rate:.0%} wrong".replace("%", " %") if noise_rate else "all right" for noise_rate in noises]
    return table(["table", *wrong, "error of the rate"], rows)


def pair_tables() -> str:
    """Accuracy on tables of three and more classes where labels take the next class."""
    runs = _stored("tables-pair")["runs"]
    rows = []
    for name, noise_rate in dict.fromkeys((run["table"], run["noise"]) for run in runs):
        own = [run for run in runs if (run["table"], run["noise"]) == (name, noise_rate)]
        of_method = {
            method: [run for run in own if run["method"] == method] for method in ("default", "plain", "forest")
        }
        rates = (np.mean([run[each] for run in of_method["default"]]) for each in ("true_rate", "noise_rate_"))
        row = [name + " *" * (name in TUNED_ON), "{:.3f} → {:.3f}".format(*rates)]
        for each in of_method.values():
            row.append("{:.3f} ± {:.3f}".format(*mean_and_error([run["accuracy"] for run in each])))
        precisions = (np.mean([run["average_precision"] for run in of_method[each]]) for each in ("default", "plain"))
        rows.append([*row, " / ".join(f"{each:.3f}" for each in precisions)])
    return table(["table", "true rate → estimated", "default", "plain", "forest", "label issues"], rows)


def peers() -> str:
    """Means over the real tables of every method: a row for each, clean / 0.2 / 0.4."""
    runs = _stored("tables-default")["runs"] + _stored("tables-peers")["runs"]
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == method]
        noises = sorted({run["noise"] for run in own})
        figures = [
            [np.mean([run[figure] for run in own if run["noise"] == each]) for each in noises]
            for figure in FIGURES.values()
        ]
        found = [
            [run["average_precision"] for run in own if run["noise"] == each and "average_precision" in run]
            for each in noises[1:]
        ]
        cells = [" / ".join(f"{mean:.3f}" for mean in means) for means in figures]
        cells.append(" / ".join(f"{np.mean(each):.3f}" for each in found) if all(found) else "–")
        rows.append([method, *cells, f"{np.median([run['seconds'] for run in own]):.1f}"])
    return table(["method", *FIGURES, "label issues", "seconds"], rows)


def human_labels() -> str:
    """Labels that people gave."""
    return table(human.HEADER, human.rows_of(_stored("human")["runs"]))


def reliability() -> str:
    """What was tried to break, and what broke."""
    return rendered(_stored("reliability")["figures"])


def processes() -> str:
    """Largest differences between a fit by several processes and that of one."""
    rows = []
    for what, each in _stored("distributed")["exact"].items():
        if not what.endswith(" 1 processes"):
            differences = [f"{each[part]:.0e}" for part in ("probabilities", "label quality", "noise rate")]
            rows.append([what, *differences, "yes" if each["all have the same bits"] else "no"])
    return table(["digits, double precision", "probabilities", "label quality", "noise rate", "same bits in all"], rows)


def files() -> str:
    """An epoch over rows on the disk."""
    rows = [
        [name, f"{each['rows_per_second']:,.0f}", f"{each['growth'] / 1e6:,.0f}", f"{each['beyond'] / 1e6:,.0f}"]
        for name, each in _stored("parquet")["figures"].items()
    ]
    header = ["", "rows a second", "memory, MB", f"of it beyond y and {BYTES_PER_ROW} bytes a row"]
    return table(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        comparison, digits, accuracy, ablation, small_batches, noise, speed, real_tables, pair_tables, peers,
        human_labels, reliability, processes, files,
    )
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--write", metavar="FILE", help="put the tables there instead of printing them")


def run(options: argparse.Namespace) -> None:
    """Print the tables, or write them into a file."""
    if not RESULTS.is_dir():
        raise OptionError(
            "An installed package does not have the stored figures: run this in a checkout or in an unpacked sdist."
        )
    if options.write:
        file = Path(options.write)
        file.write_text(filled(file.read_text()))
        return
    for name, render in TABLES.items():
        show(f"{name}: {(render.__doc__ or '').splitlines()[0]}\n\n{render()}\n")


def filled(text: str) -> str:
    """The text with the tables of now between its marks.

    Raises
    ------
    KeyError
        If a mark names no table.
    ValueError
        If there is no mark.
    """
    mark = re.compile(r"<!-- table ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
    if not mark.search(text):
        raise ValueError("There is no place for a table: <!-- table NAME --> and, below, <!-- end -->.")
    return mark.sub(lambda found: f"<!-- table {found[1]} -->\n\n{TABLES[found[1]]()}\n\n<!-- end -->", text)


def _stored(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _all(pattern: str) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(pattern))]


def _is_ablation(stored: dict) -> bool:
    return any(run["method"].startswith("without-") for run in stored["runs"])


def _lost(scores: dict, method: str) -> str:
    if method not in scores:
        return "–"
    return "{:+.2f} ± {:.2f}".format(*mean_and_error(100 * np.subtract(scores[method], scores["true"])))


def _cell(stored: dict) -> str:
    settings = stored["settings"]
    rate = f" {settings['rate']:g}" if "rate" in settings else ""
    limit = f" ({settings['limit']:,})" if "limit" in settings else ""
    others = [settings[name] for name, usual in USUAL.items() if settings[name] != usual]
    jpeg = settings["dataset"] == "cifar10" and stored.get("source", {}).get("images") != "OpenML"
    data = DATASETS[settings["dataset"]] + (" (JPEG-coded)" if jpeg else "")
    cell = f"{data}{limit}, {Path(settings['noise']).name}{rate}, {settings['epochs']}"
    return ", ".join([cell, *others])
