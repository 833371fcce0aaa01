"""Arrays of other libraries to NumPy or torch, and outputs back to the library and device of the input."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config
from torch import Tensor

from skcoteach._sklearn import get_namespace_and_device, move_to


#: Rows to work on at a time where an intermediate result for all of them would be large.
ROWS_AT_A_TIME = 2**17


def blocks(n: int, size: int = ROWS_AT_A_TIME) -> list[slice]:
    """So many rows, one after the other."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def class_number_dtype(n_classes: int) -> np.dtype:
    """The smallest signed integers that hold the numbers of so many classes, and -1."""
    return np.min_scalar_type(-n_classes)


def index_dtype(n: int) -> np.dtype:
    """The smallest integers that torch takes as indices of so many rows."""
    return np.dtype(np.int32 if n <= np.iinfo(np.int32).max else np.int64)


def is_foreign(array: Any) -> bool:
    """Whether scikit-learn, told to, treats this as an array of a library other than NumPy and torch."""
    return (
        get_config()["array_api_dispatch"]
        and hasattr(array, "__array_namespace__")
        and not isinstance(array, (np.ndarray, np.generic, Tensor))
        and not sparse.issparse(array)
    )


def is_dict(X: Any) -> bool:
    """Whether X is a dict of arrays; one of the sparse formats is a dict, too."""
    return isinstance(X, Mapping) and not sparse.issparse(X)


def to_host(array: Any) -> Any:
    """A tensor or array of another library as a NumPy array; anything else unchanged.

    Raises
    ------
    ValueError
        If a tensor holds no numbers that NumPy could hold.
    """
    if isinstance(array, Tensor):
        if array.is_meta or array.is_quantized or array.layout != torch.strided:
            kind = "on the meta device" if array.is_meta else f"quantized ({array.dtype})" if array.is_quantized else ""
            raise ValueError(
                f"A tensor of labels or weights is {kind or f'of layout {array.layout}'}; a dense one with numbers is "
                "expected."
            )
        if array.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):  # NumPy has none of these
            array = array.float()
        return array.numpy(force=True)
    if is_foreign(array):
        return move_to(array, xp=np, device="cpu")
    return array


def to_tensor(array: Any) -> Tensor:
    """An array of another library as a tensor."""
    _, _, device = get_namespace_and_device(array)
    xp, _, _ = get_namespace_and_device(torch.empty(0))
    return move_to(array, xp=xp, device="cuda" if "cuda" in str(device).lower() else "cpu")


def to_namespace_of(values: Tensor | np.ndarray, X: Any) -> Any:
    """An output as scikit-learn's users expect it: NumPy, or what and where X is while array API dispatch is on."""
    if get_config()["array_api_dispatch"] and (isinstance(X, Tensor) or is_foreign(X)):
        if isinstance(X, Tensor) and isinstance(values, Tensor):
            return values.to(X.device)
        xp, _, device = get_namespace_and_device(X)
        return move_to(to_host(values), xp=xp, device=device)
    return to_host(values)
