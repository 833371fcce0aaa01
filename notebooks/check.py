"""Run the notebooks, and hold what they print against what is stored: ``python notebooks/check.py [NOTEBOOK ...]``.

Each is executed from top to bottom, in a temporary folder. All cells have to run; those tagged ``check`` have to print
the stored text again, their numbers to 2 %. With ``--write`` the new outputs are stored instead. What a notebook says
is its own business, what is stored of it (size, paths, warnings) that of ``tests/test_notebooks.py``.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

#: How far a number may be from the stored one: this share of it, or this much. So whole numbers below 50 are exact.
RELATIVE, ABSOLUTE = 0.02, 0.005
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?(?!\w)")
SECONDS_PER_CELL = 600


def difference(stored: str, found: str) -> str | None:
    """What tells two texts apart, or None: other words, or a number that is too far from the stored one."""
    words = [" ".join(NUMBER.sub(" # ", text).split()) for text in (stored, found)]
    if words[0] != words[1]:
        return "other words, or more or fewer numbers"
    for before, now in zip(NUMBER.findall(stored), NUMBER.findall(found), strict=True):
        if abs(float(now) - float(before)) > max(ABSOLUTE, RELATIVE * abs(float(before))):
            return f"{now} instead of {before}"
    return None


def text_of(cell: NotebookNode) -> str:
    """What a code cell prints and returns; not its warnings and pictures."""
    texts = [output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]
    texts += [output.data.get("text/plain", "") for output in cell.outputs if "data" in output]
    return "".join(texts)


def differences(stored: NotebookNode, found: NotebookNode) -> list[str]:
    """A message for each cell tagged ``check`` whose text is another one now."""
    messages = []
    for number, (before, now) in enumerate(zip(stored.cells, found.cells, strict=True), start=1):
        if "check" in before.metadata.get("tags", []):
            what = difference(text_of(before), text_of(now))
            if what is not None:
                messages.append(
                    f"cell {number}: {what}\n--- stored\n{text_of(before).strip()}\n--- now\n{text_of(now).strip()}"
                )
    return messages


def executed(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook, with fresh outputs and with nothing in it that tells of the machine or the time.

    Raises
    ------
    CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    })  # fmt: skip
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Run those named, or all; tell of each how long it took, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(":")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="all of this folder, if none")
    parser.add_argument("--write", action="store_true", help="store the outputs, compare nothing")
    options = parser.parse_args(arguments)
    n_failed = 0
    for path in options.notebooks or sorted(Path(__file__).parent.glob("*.ipynb")):
        stored = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        try:
            found = executed(stored)
            messages = [] if options.write else differences(stored, found)
        except CellExecutionError as error:
            messages = [f"a cell fails:\n{error}"]
        print(f"{path.name}: {'FAILED' if messages else 'passed'}, {time.perf_counter() - start:.0f} s", flush=True)
        for message in messages:
            print(f"{path.name}, {message}\n", flush=True)
        if options.write and not messages:
            nbformat.write(found, path)
        n_failed += bool(messages)
    return min(n_failed, 1)


if __name__ == "__main__":
    sys.exit(main())
