"""Co-teaching for scikit-learn: classifiers that are not fooled by wrong training labels."""

from skcoteach import augmentation, coteaching, networks, noise, recipes, schedules
from skcoteach._classifier import CoTeachingClassifier

__version__ = "0.1.0"

__all__ = ["CoTeachingClassifier", "augmentation", "coteaching", "networks", "noise", "recipes", "schedules"]
