"""Co-teaching for scikit-learn: classifiers that are not fooled by wrong training labels."""

from skcoteach import coteaching, networks, noise
from skcoteach.classifier import CoTeachingClassifier

__version__ = "0.1.0"

__all__ = ["CoTeachingClassifier", "coteaching", "networks", "noise"]
