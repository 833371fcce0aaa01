"""What is handed out: an sdist that can test itself, a wheel that has the code alone."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = "from setuptools import build_meta; build_meta.build_sdist('built'); build_meta.build_wheel('built')"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The files of a checkout, those of the sdist and of the wheel built from it, and what setuptools said."""
    pytest.importorskip("setuptools")
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: which files are its own is not known")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    checkout = tmp_path_factory.mktemp("checkout")
    for name in listed:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=checkout, capture_output=True, text=True, check=True)
    (sdist,), (wheel,) = checkout.glob("built/*.tar.gz"), checkout.glob("built/*.whl")
    with tarfile.open(sdist) as opened:
        in_sdist = {name.partition("/")[2] for name in opened.getnames()}
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = {name for name in opened.namelist() if ".dist-info/" not in name}
    return set(listed), in_sdist, in_wheel, done.stdout + done.stderr


def test_the_sdist_has_all_that_its_tests_read(built):
    listed, in_sdist, _, _ = built
    assert {name for name in listed if not name.startswith(".")} <= in_sdist


def test_the_wheel_has_the_code_alone(built):
    listed, _, in_wheel, _ = built
    code = {name for name in listed if name.startswith("skcoteach/") and name.endswith((".py", "/py.typed"))}
    assert in_wheel == code


def test_nothing_in_the_build_is_deprecated_or_ignored(built):
    told = built[3].lower()
    for word in ("deprecat", "would be ignored", "absent from"):
        assert word not in told
