"""The private corners of scikit-learn that the package needs, imported in this one place.

When scikit-learn moves one of them, this is the file to mend.
"""

from sklearn.utils._array_api import check_same_namespace, get_namespace_and_device, move_to
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_1d_labels

__all__ = [
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_1d_labels",
    "check_same_namespace",
    "check_sample_weight",
    "get_namespace_and_device",
    "move_to",
]
