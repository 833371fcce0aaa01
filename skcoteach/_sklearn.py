"""The private corners of scikit-learn that the package needs, imported in this one place.

When scikit-learn moves one of them, this is the file to mend.
"""

import sklearn

from skcoteach._version import missing_name

try:
    from sklearn import callback
    from sklearn.utils._array_api import check_same_namespace, get_namespace_and_device, move_to
    from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
    from sklearn.utils.validation import _check_sample_weight as check_sample_weight
    from sklearn.utils.validation import _check_y as check_1d_labels
except ImportError as error:
    raise missing_name("scikit-learn >= 1.9", sklearn.__version__, error) from error

__all__ = [
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "callback",
    "check_1d_labels",
    "check_same_namespace",
    "check_sample_weight",
    "get_namespace_and_device",
    "move_to",
]
