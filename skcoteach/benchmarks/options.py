"""What the options of the command line may be; argparse tells the user what is wrong with the others."""

import argparse
from importlib.util import find_spec
from pathlib import Path

#: Of the networks of the experiments.
PRECISIONS = ("float32", "tf32", "bf16")


class OptionError(ValueError):
    """An option of the command line that cannot be."""


def is_installed(module: str) -> bool:
    """Whether a module of an extra can be imported."""
    return find_spec(module) is not None


def need(module: str, package: str, what: str) -> None:
    """Say before anything is trained that a package of the extra ``benchmarks`` is missing.

    Raises
    ------
    OptionError
        If the module cannot be imported.
    """
    if not is_installed(module):
        raise OptionError(f"{what} needs {package}: pip install {package}")


def count(text: str) -> int:
    """An option that counts something: an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def folds(text: str) -> int:
    """An option that says into how many parts the data are cut: an integer of at least 2."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {number}")
    return number


def jobs(text: str) -> int:
    """An option that says how many processes, as joblib understands it: not 0."""
    number = int(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1, or -1 for all cores")
    return number


def rate(text: str) -> float:
    """An option that is a noise rate."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and less than 1, got {number:g}")
    return number


def new_file(text: str) -> str:
    """An option that names a file to be written."""
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return text
