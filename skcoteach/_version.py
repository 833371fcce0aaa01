"""The version of the package, told in pickles, too, and what is said where another library has none that it needs."""

import re

__version__ = "0.1.0"


def missing_name(needed: str, found: str, error: ImportError) -> ImportError:
    """The error of an import from another library, with the versions needed and found."""
    name = re.match(r"cannot import name '(\w+)'", str(error))
    what = f"`{name[1]}` is not in {error.name}" if name else str(error)
    return ImportError(
        f"skcoteach {__version__} needs {needed} (and helpers that a later one may have moved), found {found}: {what}",
        name=error.name,
    )
