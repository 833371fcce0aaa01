"""Files are written whole or not at all, and hold nothing that could run."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from skcoteach import _state_file
from skcoteach._state_file import UnusableFileError, not_plain, read, write

VALUES = {"tensor": torch.arange(3.0), "nested": [1, 2.5, None, True, "ä", ("a", {"b": []})]}


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "file", "example", VALUES)
    found = read(tmp_path / "file", "example")
    assert found["nested"] == VALUES["nested"]
    assert torch.equal(found["tensor"], VALUES["tensor"])
    assert os.listdir(tmp_path) == ["file"]


def test_every_bit_is_checked(tmp_path):
    file = tmp_path / "file"
    write(file, "example", {"a": 1})
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(UnusableFileError):
            read(file, "example")
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(UnusableFileError):
            read(file, "example")


@pytest.mark.parametrize("change", ["kind", "format"])
def test_other_kinds_and_formats_are_refused(change, tmp_path, monkeypatch):
    write(tmp_path / "file", "example", VALUES)
    if change == "format":
        monkeypatch.setattr(_state_file, "FORMAT", 2)
    with pytest.raises(UnusableFileError, match="another kind or version"):
        read(tmp_path / "file", "example" if change == "format" else "other")


def test_what_cannot_be_written_leaves_what_is_there(tmp_path, monkeypatch):
    write(tmp_path / "file", "example", {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "file", "example", {"a": 2})
    assert read(tmp_path / "file", "example") == {"a": 1}
    assert os.listdir(tmp_path) == ["file"]


PLAIN = [VALUES, OrderedDict(a=torch.Size([1])), nn.Parameter(torch.ones(1)), {1: {"a": ()}}]


@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_values_come_back(value, tmp_path):
    assert not_plain(value, "it") is None
    write(tmp_path / "file", "example", {"it": value})
    assert str(read(tmp_path / "file", "example")["it"]) == str(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"a": [1, {2}]}, r"it.a\[1\] (builtins.set)"),
        ({"a": np.float64(1)}, "it.a (numpy.float64)"),
        ({"b": {np.int64(1): 2}}, "a key of it.b (numpy.int64)"),
        ((1, np.ones(2)), "it[1] (numpy.ndarray)"),
        (print, "it (builtins.builtin_function_or_method)"),
    ],
)
def test_what_is_not_plain_is_named(value, name):
    assert not_plain(value, "it") == name.replace("\\", "")
