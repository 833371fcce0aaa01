"""What other libraries lack is told by name and version; the package's own version is the same wherever it stands."""

import re
import subprocess
import sys
import tomllib
from email.message import Message
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import skcoteach

ROOT = Path(__file__).parent.parent

#: Import the package where a library is another version.
OTHER_VERSION = """
import sys
import {library}, {module}, sklearn.base
{library}.__version__ = "99.1"
{gone}
import skcoteach
"""
#: As before scikit-learn 1.9.
NO_CALLBACK = "vars(sklearn).pop('callback', 0); sys.modules.pop('sklearn.callback', 0); sklearn.__path__ = []"


def told_where(library, module, gone):
    program = OTHER_VERSION.format(library=library, module=module, gone=gone)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "module, name",
    [
        ("sklearn.utils._array_api", "move_to"),
        ("sklearn.utils._param_validation", "Interval"),
        ("sklearn.utils.validation", "_check_y"),
        ("torch.nn.modules.module", "_has_any_global_hook"),
        ("torch", "_fused_adam_"),
    ],
)
def test_a_library_without_a_name_that_is_needed_is_told_with_both_versions(module, name):
    library = module.partition(".")[0]
    told = told_where(library, module, f"del {module}.{name}")
    needed = re.match(r"ImportError: skcoteach (\S+) needs (.*) \(.*\), found 99\.1: (.*)", told)
    assert needed, told
    assert needed[1] == skcoteach.__version__
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert needed[2].replace(" ", "") in dependencies
    assert needed[3] == f"`{name}` is not in {module}"


def test_a_scikit_learn_without_callbacks_is_told_to_be_too_old():
    told = told_where("sklearn", "sklearn.utils", NO_CALLBACK)
    assert re.search(r"needs scikit-learn >= 1\.9 .*, found 99\.1: No module named 'sklearn.callback'", told), told


def test_version_changelog_and_citation_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.*?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    citation = dict(re.findall(r"^(version|date-released): (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert skcoteach.__version__ == version == citation["version"]
    assert date == citation["date-released"]


@pytest.mark.parametrize("urls", [None, [], ["Source, https://example.org/code"]])
def test_without_an_address_of_the_documentation_nothing_is_linked(urls, monkeypatch):
    monkeypatch.setattr("skcoteach._version.metadata", metadata_with(urls))
    assert "href" not in skcoteach.CoTeachingClassifier()._repr_html_()


def test_the_html_repr_links_to_the_documentation_that_pyproject_names(monkeypatch):
    urls = ["Source, https://example.org/code", "Documentation, https://example.org/docs"]
    monkeypatch.setattr("skcoteach._version.metadata", metadata_with(urls))
    assert 'href="https://example.org/docs"' in skcoteach.CoTeachingClassifier()._repr_html_()


def metadata_with(urls):
    """Stands for importlib.metadata.metadata: with these addresses, or of a package that is not installed."""

    def metadata(name):
        if urls is None:
            raise PackageNotFoundError(name)
        found = Message()
        for url in urls:
            found["Project-URL"] = url
        return found

    return metadata
