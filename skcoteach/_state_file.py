"""Plain values in a file: written whole or not at all, with a checksum, and read without running what is in it."""

import hashlib
import io
import os
import secrets
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Of the files; another one is not read.
FORMAT = 1


class UnusableFileError(ValueError):
    """A file is damaged, of something else, or of another version."""


def not_plain(value: Any, name: str) -> str | None:
    """The name, after ``name``, of something in a value that a file cannot hold; None if it holds all.

    Nested dicts, lists and tuples of tensors, numbers, bools, strings and None, which
    ``torch.load(weights_only=True)`` admits.
    """
    if value is None or type(value) in (bool, int, float, str, Tensor, nn.Parameter, nn.Buffer):
        return None
    if type(value) in (dict, OrderedDict):
        keys = (not_plain(key, f"a key of {name}") for key in value)
        parts = (not_plain(each, f"{name}.{key}") for key, each in value.items())
        return next((found for found in (*keys, *parts) if found is not None), None)
    if type(value) in (list, tuple, torch.Size):
        parts = (not_plain(each, f"{name}[{number}]") for number, each in enumerate(value))
        return next((found for found in parts if found is not None), None)
    return f"{name} ({type(value).__module__}.{type(value).__qualname__})"


def write(file: Path, kind: str, values: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write a file, or leave the one that is there.

    Parameters
    ----------
    file : Path
    kind : str
        What it is; to be told again when it is read.
    values : dict
        For which :func:`not_plain` finds nothing.
    previous : Path, optional
        What the one that is there will be called, once the new one is written.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    content = buffer.getbuffer()
    unfinished = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.unfinished")
    try:
        with open(unfinished, "xb") as opened:
            opened.write(_header(kind, content))
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        if previous is not None:
            with suppress(FileNotFoundError):
                os.replace(file, previous)
        os.replace(unfinished, file)
    finally:
        with suppress(OSError):  # it is not there any more, or the folder is gone
            unfinished.unlink()
    _make_name_last(file.parent)


def read(file: Path, kind: str) -> dict[str, Any]:
    """The values that were written to a file of this kind, on the CPU.

    Raises
    ------
    UnusableFileError
        If it is not, or not whole, what was written.
    OSError
        If it cannot be read.
    """
    header, newline, values = file.read_bytes().partition(b"\n")
    if not header.startswith(b"skcoteach "):
        raise UnusableFileError("it was not written by skcoteach")
    if header + newline != _header(kind, values):
        raise UnusableFileError("it is damaged, or of another kind or version")
    try:
        with torch.sparse.check_sparse_tensor_invariants():  # some versions of torch warn where it is left open
            return torch.load(io.BytesIO(values), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnusableFileError(f"what it holds cannot be read: {type(error).__name__}") from error


def _header(kind: str, content: Any) -> bytes:
    checksum = hashlib.blake2b(content, digest_size=16, person=b"skcoteach").hexdigest()
    return f"skcoteach {FORMAT} {kind} {checksum}\n".encode()


def _make_name_last(folder: Path) -> None:
    """A renamed file survives a loss of power when its folder is written, too, where the system knows of this."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
