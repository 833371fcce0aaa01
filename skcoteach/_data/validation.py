"""From what users hand over to what the training works on, or an error in their words.

X stays in its own form (array, tensor, sparse matrix, Dataset) and is not copied if it need not be; y becomes class
numbers of few bytes, weights become one float64 per example.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, StackDataset

from skcoteach._arrays import blocks, class_number_dtype, is_dict, is_foreign, to_host, to_tensor
from skcoteach._batches import tensors_of
from skcoteach._data.inputs import InputForm, Inputs, is_dataset, item_of, name_of, sorted_keys
from skcoteach._errors import named, said_of
from skcoteach._sklearn import InvalidParameterError, check_1d_labels, check_sample_weight

#: What to do where columns do not hold numbers.
ENCODE = "Encode them, by sklearn.preprocessing.OneHotEncoder in a ColumnTransformer say, or leave them out."
TRANSFORM = "In a pipeline, Pipeline(steps, transform_input=['X_val']) has the steps before transform it like X."
#: What scikit-learn notes of them on an estimator.
COLUMNS = ("n_features_in_", "feature_names_in_")


@dataclass(frozen=True)
class ValidatedData:
    """What users handed over, checked.

    Attributes
    ----------
    X : object
        As it was handed over: outputs follow its namespace.
    inputs : Inputs of length n_samples
    classes : ndarray of shape (n_classes,)
        Sorted.
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers, of the smallest type that holds them.
    sample_weights, weights : ndarray of shape (n_samples,), float64
        Without and with ``class_weight``; not to be written to.
    columns : dict
        ``n_features_in_`` and, where X has them, ``feature_names_in_``.
    index : pandas.Index or None
        Of the rows of X, or else of y, where that is of pandas.
    """

    X: Any
    inputs: Inputs
    classes: np.ndarray
    codes: np.ndarray
    sample_weights: np.ndarray
    weights: np.ndarray
    columns: dict[str, Any]
    index: Any = None


def validate(
    estimator: Any, X: Any, y: Any, sample_weight: Any, classes: np.ndarray | None = None, *, reset: bool
) -> ValidatedData:
    """Check all that is handed to ``fit`` or, unless ``reset``, to a later ``partial_fit``.

    The estimator is not changed.

    Raises
    ------
    ValueError, TypeError
        If it cannot be trained on.
    """
    scratch = copy.copy(estimator)  # scikit-learn's validation writes on it
    inputs = check_X(scratch, X, reset=reset)
    with named("y"):
        given_y, y = y, check_y(scratch, y, len(inputs))
        classes, codes = encode(y, classes)
    sample_weights = check_weights(sample_weight, None, classes, codes)
    without = estimator.class_weight is None
    return ValidatedData(
        X,
        inputs,
        classes,
        codes,
        sample_weights,
        sample_weights if without else check_weights(sample_weight, estimator.class_weight, classes, codes),
        {name: getattr(scratch, name) for name in COLUMNS if hasattr(scratch, name)},
        next((each.index for each in (X, given_y) if hasattr(each, "iloc")), None),
    )


@dataclass(frozen=True)
class LabelledInputs:
    """A validation set, checked.

    Attributes
    ----------
    inputs : Inputs of length n_samples
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers of the training data.
    weights : ndarray of shape (n_samples,), float64
    """

    inputs: Inputs
    codes: np.ndarray
    weights: np.ndarray


def validate_beside(
    estimator: Any, given: ValidatedData, X_val: Any, y_val: Any, sample_weight_val: Any
) -> LabelledInputs | None:
    """Check a validation set that is handed to ``fit`` beside the training data; None, if there is none.

    Raises
    ------
    ValueError, TypeError
        If it cannot be used with these data.
    """
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val is given, but X_val and y_val are not.")
        return None
    if X_val is None or y_val is None:
        missing, there = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
        raise ValueError(f"{there} is given, but {missing} is not.")
    scratch = copy.copy(estimator)
    for name in COLUMNS:  # of an earlier fit
        vars(scratch).pop(name, None)
    vars(scratch).update(given.columns)
    with said_of("X_val"):
        inputs = check_X(scratch, X_val, reset=False, advice=TRANSFORM)
        check_form(inputs.form, given.inputs.form, type(estimator).__name__)
    with said_of("y_val"):
        codes = encode(check_y(scratch, y_val, len(inputs)), given.classes)[1]
    with said_of("sample_weight_val"):
        weights = check_weights(sample_weight_val, None, given.classes, codes)
    return LabelledInputs(inputs, codes, weights)


@named("X")
def check_X(estimator: Any, X: Any, *, reset: bool, advice: str = ENCODE) -> Inputs:
    """Validate X and set or compare ``n_features_in_`` and ``feature_names_in_``, which a dict has not.

    Parameters
    ----------
    estimator : CoTeachingClassifier
        Its attributes are set if ``reset``, else compared with.
    X : array-like, Tensor, sparse matrix, data frame, dict of arrays, Dataset or list of items
        Of shape (n_samples, ...), with at least one more axis; entries of a dict need none.
    reset : bool
    advice : str
        What to do where columns do not hold numbers.

    Returns
    -------
    Inputs

    Raises
    ------
    ValueError
        If X has the wrong number of axes, no examples, NaN or infinity, or other columns than the X of ``fit``.
    TypeError
        If X is a Dataset without a length, or something that is no data.
    """
    X = _opened(X)
    if is_dict(X):
        inputs = Inputs(_checked_entries(estimator, X))
    elif is_items(X):
        inputs = _check_items(estimator, X)
        if inputs.form.entries is None:
            validate_data(estimator, np.empty((1, *inputs.form.item_shape[:1])), reset=reset, skip_check_array=True)
    elif isinstance(X, Tensor) or is_foreign(X):
        inputs = Inputs(_checked_tensor(estimator, X if isinstance(X, Tensor) else to_tensor(X)))
        validate_data(estimator, inputs.X, reset=reset, skip_check_array=True)
    else:
        _check_is_data(X)
        if _has_shape_of_one_axis(X) and np.asarray(X).ndim > 1:
            X = np.asarray(X)  # else scikit-learn sees no features
        try:
            X = validate_data(estimator, X, reset=reset, accept_sparse="csr", dtype="numeric", allow_nd=True)
        except (TypeError, ValueError) as error:
            unfit = _columns_without_numbers(X)
            if not unfit:
                raise
            reason = str(error).splitlines()[0][:200].rstrip(".")
            raise ValueError(f"The columns {unfit} of X do not hold numbers: {reason}. {advice}") from error
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X must hold numbers; its dtype is {X.dtype}.")
        inputs = Inputs(X)
    if reset and inputs.form.entries is not None:  # of an earlier fit
        for name in COLUMNS:
            vars(estimator).pop(name, None)
    return inputs


def _opened(X: Any) -> Any:
    """The dict of a StackDataset that has been made of nothing but arrays and tensors."""
    arrays = getattr(X, "datasets", None) if type(X) is StackDataset else None
    is_open = isinstance(arrays, dict) and all(isinstance(each, (np.ndarray, Tensor)) for each in arrays.values())
    return arrays if is_open else X


def _checked_entries(estimator: Any, X: Mapping) -> dict[str, np.ndarray | Tensor]:
    """A dict of arrays and tensors of one length, all of numbers."""
    entries = {key: _checked_entry(estimator, X[key], name_of(key)) for key in sorted_keys(X, "X")}
    lengths = {key: len(each) for key, each in entries.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise ValueError(f"The entries of X must be equally long, one item for each example; got {listed}.")
    return entries


def _checked_entry(estimator: Any, X: Any, name: str) -> np.ndarray | Tensor:
    if is_foreign(X):
        X = to_tensor(X)
    if isinstance(X, Tensor):
        return _checked_tensor(estimator, X, name, n_axes=1)
    if isinstance(X, (str, bytes, Mapping, Dataset)) or sparse.issparse(X):
        kind = type(X).__name__
        raise TypeError(f"{name} is a {kind}; the entries of a dict must be arrays, tensors or lists of numbers.")
    check_not_masked(X, name)
    try:
        array = check_array(
            X,
            dtype="numeric",
            ensure_2d=False,
            allow_nd=True,
            ensure_min_samples=0,
            ensure_min_features=0,
            input_name=name,
        )
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        raise ValueError(f"{name} cannot be used: {error}") from error
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers for each example; it has dtype {array.dtype}, shape {array.shape}.")
    _check_not_empty(estimator, f"{name}", (len(array), int(np.prod(array.shape[1:]))))
    return array


def _check_is_data(X: Any) -> None:
    """Refuse what scikit-learn would refuse in words about the shape of an array of it."""
    if isinstance(X, DataLoader):
        raise TypeError("X is a DataLoader. Give its dataset; batches are made here, of batch_size examples.")
    if X is None or isinstance(X, (str, bytes, set, Iterator)):
        raise TypeError(f"X is a {type(X).__name__}; expected 2D array, tensor, data frame, Dataset or the like.")
    if isinstance(X, (list, tuple)) and X and isinstance(X[0], Mapping):
        raise TypeError(
            "The items of X are dicts. Give a table: sklearn.feature_extraction.DictVectorizer makes one of them, or "
            "pandas.DataFrame."
        )
    if hasattr(X, "column_names") and hasattr(X, "with_format"):  # of Hugging Face
        raise TypeError(
            f"X is a dataset with the columns {list(X.column_names)}. Give what the networks are to see: columns that "
            'reach forward as keywords, X.select_columns(["ids", "mask"]).with_format("torch") say, or a single one, '
            'X.with_format("torch")["image"].'
        )
    if _are_texts(X):
        raise ValueError(
            "X holds texts. Give numbers: sklearn.feature_extraction.text.TfidfVectorizer in a pipeline makes a table "
            "of them; or what a tokenizer makes of them, with a module that takes it."
        )
    if getattr(getattr(X, "dtype", None), "names", None):
        raise ValueError(
            f"X is a structured array with the fields {list(X.dtype.names)}. Give a plain one: "
            "numpy.lib.recfunctions.structured_to_unstructured(X)."
        )
    check_not_masked(X, "X")


def _are_texts(X: Any) -> bool:
    """Whether X is a list, array or column of strings."""
    if not isinstance(X, (list, tuple)):
        X = np.asarray(X) if _has_shape_of_one_axis(X) and hasattr(X, "__array__") else ()
    return len(X) > 0 and isinstance(X[0], str)


def check_not_masked(array: Any, name: str) -> None:
    """Refuse an array of which something is masked: the mask would be forgotten.

    Raises
    ------
    ValueError
        If something is masked.
    """
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ValueError(f"{name} is a masked array, and values of it are masked. Fill them, or leave these rows out.")


def _columns_without_numbers(X: Any) -> list:
    """Names of the columns of a data frame that cannot be made numbers."""
    unfit = []
    for name in getattr(X, "columns", ()):
        column = np.asarray(X[name])
        try:
            is_fit = column.dtype.kind not in "mM" and column.astype(np.float64) is not None
        except (TypeError, ValueError):
            is_fit = False
        if not is_fit:
            unfit.append(name)
    return unfit


def is_items(X: Any) -> bool:
    """Whether X is a Dataset or a list of what a Dataset gives (tensors, dicts, or tuples that start with x).

    A dataset of Hugging Face is one if it gives tensors. Dicts of nothing but Python's numbers and strings are rows of
    a table, not items.

    A sequence that has the shape of a column, as ``skorch.helper.SliceDataset`` has, is a list if it gives arrays or
    tensors.
    """
    if is_dataset(X):
        return True
    is_column = isinstance(X, Sequence) and _has_shape_of_one_axis(X)
    if not (is_column or isinstance(X, (list, tuple))):
        return False
    if not len(X):
        return is_column
    first = X[0][0] if isinstance(X[0], tuple) and X[0] else X[0]
    if is_dict(first):
        return not all(isinstance(each, (bool, int, float, str)) for each in first.values())
    return isinstance(first, Tensor) or ((is_column or isinstance(X[0], tuple)) and isinstance(first, np.ndarray))


def _has_shape_of_one_axis(X: Any) -> bool:
    shape = getattr(X, "shape", None)
    return isinstance(shape, tuple) and len(shape) == 1


def _check_items(estimator: Any, X: Any) -> Inputs:
    if isinstance(X, IterableDataset) or not hasattr(X, "__len__"):
        raise TypeError(
            "X is a Dataset without a length. Co-teaching draws examples by number, so X must be a map-style Dataset "
            "with __len__ and __getitem__."
        )
    _check_not_empty(estimator, "Dataset", (len(X),))
    first = item_of(X, 0)
    for each in tensors_of(first):
        _check_not_empty(estimator, "items of X", (1, each.numel()))
    if isinstance(first, Tensor) and first.ndim == 0:
        raise ValueError("The items of X are single numbers. An example must have at least one axis: shape (1,), say.")
    return Inputs(X)


def _checked_tensor(estimator: Any, X: Tensor, name: str = "X", n_axes: int = 2) -> Tensor:
    X = X.detach()
    if X.layout != torch.strided:
        or_sparse = ", or a scipy sparse matrix" if n_axes > 1 else ""
        raise ValueError(f"{name} is a tensor of layout {X.layout}. Give {name}.to_dense(){or_sparse}.")
    if X.ndim < n_axes == 1:
        raise ValueError(f"{name} is a tensor without axes; an item for each example is expected.")
    if X.ndim < n_axes:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D tensor instead, of shape {tuple(X.shape)}. Reshape your data using "
            "X.reshape(-1, 1) if it has a single feature or X.reshape(1, -1) if it is a single sample."
        )
    if X.is_meta:
        raise ValueError(f"{name} is on the meta device: it has a shape, but no numbers.")
    if X.is_quantized:
        raise ValueError(f"{name} is a quantized tensor. Give {name}.dequantize().")
    if X.is_complex():
        raise ValueError(f"Complex data not supported: {name} is a tensor of {X.dtype}.")
    _check_not_empty(estimator, "tensor", tuple(X.shape))
    # Two passes over X only if the sum of the first, which needs no memory, is not finite.
    if X.is_floating_point() and not torch.isfinite(X.sum()) and not torch.isfinite(X).all():
        raise ValueError(
            f"Input {name} contains NaN or infinity. {type(estimator).__name__} does not accept missing values; see "
            "sklearn.impute, or remove the rows that contain them."
        )
    return X


def _check_not_empty(estimator: Any, what: str, shape: tuple[int, ...]) -> None:
    for size, unit in zip(shape, ("sample(s)", "feature(s)"), strict=False):
        if size < 1:
            raise ValueError(
                f"Found {what} with 0 {unit} (shape={shape}) while a minimum of 1 is required by "
                f"{type(estimator).__name__}."
            )


def check_form(form: InputForm, fitted: InputForm, name: str) -> None:
    """Compare the form of X with that of the X of ``fit``.

    Parameters
    ----------
    form, fitted : InputForm
        Of X, and of the X of ``fit``.
    name : str
        Of the estimator, for the message.

    Raises
    ------
    ValueError
        If an example has another shape or other keys, or if its numbers would mean something else to the networks.
    """
    if form.entries is not None or fitted.entries is not None:
        _check_entries(form, fitted, name)
        return
    if form.item_shape != fitted.item_shape:
        raise ValueError(
            f"X has examples of shape {form.item_shape}, but {name} was fitted on examples of shape "
            f"{fitted.item_shape}."
        )
    # Numbers in a table mean the same as integers and as floats; those of images and indices do not.
    if form.kind != fitted.kind and (len(form.item_shape) > 1 or fitted.as_indices):
        raise ValueError(
            f"X holds {form.kind}, but {name} was fitted on {fitted.kind}. Convert X to the dtype that it was fitted "
            "on: uint8 images are divided by 255, other numbers are taken as they are."
        )


def _check_entries(form: InputForm, fitted: InputForm, name: str) -> None:
    if form.entries is None or fitted.entries is None:
        kinds = [
            "an array" if each.entries is None else f"a dict of {', '.join(each.entries)}" for each in (form, fitted)
        ]
        raise ValueError(f"X is {kinds[0]}, or has such items, but {name} was fitted on {kinds[1]}.")
    if form.entries.keys() != fitted.entries.keys():
        own, expected = (", ".join(each) for each in (form.entries, fitted.entries))
        raise ValueError(f"X has the entries {own}, but {name} was fitted on {expected}.")
    for key, own_form in form.entries.items():
        before = fitted.entries[key]
        if own_form.item_shape != before.item_shape:
            raise ValueError(
                f"{name_of(key)} has examples of shape {own_form.item_shape}, but {name} was fitted on examples of "
                f"shape {before.item_shape}."
                + (" Fill or cut sequences to that length." if len(before.item_shape) == 1 else "")
            )
        if own_form.kind != before.kind:  # they reach forward as they are
            raise ValueError(
                f"{name_of(key)} holds {own_form.kind}, but {name} was fitted on {before.kind}. Convert it to the "
                "dtype that it was fitted on."
            )


def check_y(estimator: Any, y: Any, n_samples: int) -> np.ndarray:
    """The given labels as a 1-D array on the host.

    Raises
    ------
    ValueError
        If y is missing, holds NaN or None, is continuous, or has another length than X.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None. Labels in a Dataset are "
            "not read: give them beside it, y=[label for _, label in dataset] say."
        )
    check_not_masked(y, "y")
    y = to_host(y)
    _check_kind_of_labels(y)
    y = check_1d_labels(y, estimator=estimator)
    if len(y) != n_samples:
        raise ValueError(f"X and y have different lengths: {n_samples} examples and {len(y)} labels.")
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise ValueError(f"The labels in y cannot be sorted, they are of different types: {error}.") from error
    return y


def _check_kind_of_labels(y: Any) -> None:
    """Refuse labels that NumPy and scikit-learn would refuse in their own words."""
    labels = np.asarray(y, dtype=None if hasattr(y, "dtype") or hasattr(y, "columns") else object)
    shape, kind = labels.shape, labels.dtype.kind
    if labels.ndim == 2 and shape[1] > 1:
        one_hot = kind in "biuf" and bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())
        hint = (
            f" It looks one-hot: give y.{'idxmax(axis=1)' if hasattr(y, 'idxmax') else 'argmax(1)'}." if one_hot else ""
        )
        raise ValueError(f"y should be a 1d array, got an array of shape {shape} instead.{hint}")
    if kind == "c":
        raise ValueError("Complex data not supported: the labels in y are complex numbers.")
    if kind == "V":
        raise ValueError(f"The labels in y are of dtype {labels.dtype}; numbers, strings or objects are expected.")
    if kind == "S" or (kind == "O" and any(isinstance(label, bytes) for label in labels.flat)):
        raise ValueError("The labels in y are bytes. Give strings: [label.decode() for label in y].")
    if kind == "O" and any(label is None or _is_na(label) for label in labels.flat):
        raise ValueError("Input y contains None or NA. Every example needs a given label; remove the rows without one.")
    is_nan = np.isnan(labels).any() if kind == "f" else kind in "OM" and any(label != label for label in labels.flat)
    if is_nan:  # in a list of strings, "nan" would be a class
        raise ValueError("Input y contains NaN. Every example needs a given label; remove the rows without one.")
    if kind == "O" and len({isinstance(label, str) for label in labels.flat}) > 1:  # in a list, all would be strings
        raise ValueError("The labels in y cannot be sorted, they are of different types: strings and others.")


def _is_na(label: Any) -> bool:
    """Whether it is that of pandas, which is neither equal to itself nor not."""
    try:
        bool(label == label)  # noqa: PLR0124
    except TypeError:
        return True
    return False


def encode(y: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Classes, sorted, and the class number of each label, of the smallest type that holds them.

    Raises
    ------
    ValueError
        If a label is not among ``classes``, or if there is a single class.
    """
    found = np.unique(y)
    if classes is not None:
        unknown = np.setdiff1d(found, classes)
        if len(unknown):
            raise ValueError(f"y holds labels that are not among the classes: {unknown.tolist()}.")
    else:
        classes = found
    if len(classes) < 2:
        raise ValueError(f"At least two classes are needed to tell them apart; got 1 class: {classes.tolist()}.")
    codes = np.empty(len(y), class_number_dtype(len(classes)))
    numbers = np.searchsorted(classes, found)
    for rows in blocks(len(y)):
        codes[rows] = numbers[np.searchsorted(found, y[rows])]
    return classes, codes


def check_weights(sample_weight: Any, class_weight: Any, classes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Weight of each example: sample weight times the weight of its given class, (n_samples,) float64.

    A single number that is seen so often, and not to be written to, where neither is given.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, or not one per example.
    """
    if sample_weight is None and class_weight is None:
        return np.broadcast_to(np.float64(1), len(codes))
    with named("sample_weight"):
        check_not_masked(sample_weight, "sample_weight")
        sample_weight = to_host(sample_weight)
        if getattr(getattr(sample_weight, "dtype", None), "kind", "f") in "mMV":
            raise ValueError(f"sample_weight must hold numbers; its dtype is {sample_weight.dtype}.")
        weights = check_sample_weight(sample_weight, codes, dtype=np.float64, ensure_non_negative=True)
    if class_weight is None:
        return weights
    if isinstance(class_weight, dict):
        given = _class_weights(class_weight, classes.tolist())
    else:
        used = weights > 0
        present = np.unique(codes[used])
        given = np.zeros(len(classes))
        given[present] = compute_class_weight(class_weight, classes=present, y=codes[used], sample_weight=weights[used])
    weights = weights * given[codes]
    if not weights.any():
        raise ValueError("class_weight gives every example weight zero; at least one needs a weight above zero.")
    return weights


def _class_weights(class_weight: dict, classes: list) -> np.ndarray:
    """One weight per class; as in scikit-learn, classes that are not named have weight one."""
    unknown = [label for label in class_weight if label not in classes]
    if unknown and any(label not in class_weight for label in classes):
        raise InvalidParameterError(f"class_weight names classes that are not in y: {unknown}. y has {classes}.")
    try:
        weights = np.array([class_weight.get(label, 1.0) for label in classes], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameterError(f"class_weight must hold numbers; got {class_weight}.") from error
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise InvalidParameterError(f"class_weight must hold finite weights of 0 or more; got {class_weight}.")
    return weights


@named("classes")
def sorted_classes(classes: Any) -> np.ndarray:
    """The ``classes`` of ``partial_fit``.

    Raises
    ------
    ValueError
        If they are not one axis of labels without NaN.
    """
    classes = to_host(classes)
    each_one = np.asarray(classes, dtype=object).ravel()
    kinds = {str if isinstance(each, str) else bytes if isinstance(each, bytes) else float for each in each_one}
    if bytes in kinds or len(kinds) > 1:
        raise ValueError(f"classes must be all numbers or all strings, not bytes, and sortable; got {classes}.")
    classes = np.unique(column_or_1d(classes))
    if classes.dtype.kind == "f" and np.isnan(classes).any():
        raise ValueError("classes contains NaN.")
    return classes
