"""What the package knows of itself: its version (which pickles hold, too), what it lacks, where it is described."""

import re
from importlib.metadata import PackageNotFoundError, metadata

__version__ = "0.1.0"


def missing_name(needed: str, found: str, error: ImportError) -> ImportError:
    """The error of an import from another library, with the versions needed and found."""
    name = re.match(r"cannot import name '(\w+)'", str(error))
    what = f"`{name[1]}` is not in {error.name}" if name else str(error)
    return ImportError(
        f"skcoteach {__version__} needs {needed} (and helpers that a later one may have moved), found {found}: {what}",
        name=error.name,
    )


def documentation_url() -> str:
    """The address that ``pyproject.toml`` gives the documentation; "" where it gives none."""
    try:
        urls = metadata("skcoteach").get_all("Project-URL", [])
    except PackageNotFoundError:  # imported from a folder, not installed
        return ""
    return dict(url.split(", ", 1) for url in urls).get("Documentation", "")
