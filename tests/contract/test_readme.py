"""Every block of the README runs, and prints what stands there."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", README, re.DOTALL)


def difference(stored, found):
    """As the notebooks are compared: words, and numbers to 2 %."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "notebooks" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    return check.difference(stored, found)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What each block prints, in one namespace and a folder of its own."""
    namespace, printed = {}, []
    with contextlib.chdir(tmp_path_factory.mktemp("readme")):
        for code, _ in BLOCKS:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "README.md", "exec"), namespace)
            printed.append(out.getvalue())
    return printed


def test_every_block_runs_and_prints_what_stands_below_it(run):
    assert len(run) >= 2
    for printed, (_, stored) in zip(run, BLOCKS, strict=True):
        assert difference(stored, printed) is None
    assert BLOCKS[0][1]


def test_links_lead_to_files_and_headings():
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in README.splitlines()
                if line.startswith("#")}  # fmt: skip
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 8
    for link in links:
        assert link.removeprefix("#") in headings if link.startswith("#") else (ROOT / link).exists(), link


def test_it_fits_on_a_few_screens_and_its_picture_is_there():
    assert 100 <= len(README.splitlines()) <= 150
    picture = ROOT / re.search(r"!\[[^\]]{40,}\]\(([^)]+\.png)\)", README)[1]
    assert imread(picture).shape[1] >= 800
