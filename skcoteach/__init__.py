"""Co-teaching for scikit-learn: classifiers that are not fooled by wrong training labels."""

from skcoteach import augmentation, coteaching, data, display, networks, noise, recipes, schedules
from skcoteach._classifier import CoTeachingClassifier
from skcoteach._saving import load, save
from skcoteach._version import __version__

__all__ = [
    "CoTeachingClassifier",
    "__version__",
    "augmentation",
    "coteaching",
    "data",
    "display",
    "load",
    "networks",
    "noise",
    "recipes",
    "save",
    "schedules",
]


def __dir__() -> list[str]:
    """The public names: what completion and ``dir`` show."""
    return sorted(__all__)
