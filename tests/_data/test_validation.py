"""What cannot be used is refused in the user's words; what can be used is handed on without a copy."""

import warnings
from collections.abc import Sequence

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import DataConversionWarning
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach._data.inputs import CPU, Inputs
from skcoteach._data.validation import (
    check_form,
    check_weights,
    check_X,
    check_y,
    encode,
    is_items,
    sorted_classes,
    validate,
)

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(6, 3))
CLASSES = np.array([0, 1, 2])
CODES = np.array([0, 0, 0, 1, 1, 2])


@pytest.fixture
def estimator():
    return CoTeachingClassifier(forget_rate=0.2)


# --- X: what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, list, torch.as_tensor])
def test_x_with_one_axis_is_refused_with_the_remedy(estimator, make):
    with pytest.raises(ValueError, match=r"(?s)Expected 2D array, got 1D (array|tensor) instead.*reshape\(-1, 1\)"):
        check_X(estimator, make(X[:, 0]), reset=True)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_x_without_axes_is_refused(estimator, make):
    with pytest.raises(ValueError, match=r"Expected 2D array, got (0D|scalar) (array|tensor) instead"):
        check_X(estimator, make(1.0), reset=True)


@pytest.mark.parametrize(
    "empty",
    [np.zeros((0, 3)), torch.zeros(0, 3), sparse.csr_array((0, 3)), TensorDataset(torch.zeros(0, 3))],
    ids=lambda empty: type(empty).__name__,
)
def test_x_without_examples_is_refused(estimator, empty):
    with pytest.raises(ValueError, match=r"0 sample\(s\).*while a minimum of 1 is required by CoTeachingClassifier"):
        check_X(estimator, empty, reset=True)


def test_an_empty_list_is_refused(estimator):
    with pytest.raises(ValueError, match="Expected 2D array"):
        check_X(estimator, [], reset=True)


@pytest.mark.parametrize("empty", [np.zeros((3, 0)), torch.zeros(3, 0)])
def test_x_without_features_is_refused(estimator, empty):
    with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"):
        check_X(estimator, empty, reset=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_nan_and_infinity_in_arrays_are_refused(estimator, value, dtype):
    bad = X.astype(dtype)
    bad[4, 1] = value
    for given in (bad, np.asfortranarray(bad), bad.reshape(3, 2, 3)):
        with pytest.raises(ValueError, match="Input X contains (NaN|infinity)"):
            check_X(estimator, given, reset=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_infinity_in_tensors_are_refused(estimator, value, dtype):
    bad = torch.tensor(X).to(dtype)
    bad[4, 1] = value
    for given in (bad, bad.T.contiguous().T, bad.reshape(3, 2, 3)):
        with pytest.raises(ValueError, match="Input X contains NaN or infinity. CoTeachingClassifier does not accept"):
            check_X(estimator, given, reset=True)


def test_infinities_that_cancel_in_the_sum_are_found(estimator):
    with pytest.raises(ValueError, match="NaN or infinity"):
        check_X(estimator, torch.tensor([[torch.inf, -torch.inf]]), reset=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_large_finite_numbers_are_no_false_alarm(estimator, dtype):
    large = np.full((40, 3), np.finfo(dtype).max, dtype)  # the sum of all overflows
    for given in (large, torch.from_numpy(large), -large, -torch.from_numpy(large)):
        assert len(check_X(estimator, given, reset=True)) == 40


def test_nan_in_sparse_matrices_and_data_frames_is_refused(estimator):
    bad = X.copy()
    bad[1, 2] = np.nan
    for given in (sparse.csr_array(bad), sparse.csc_matrix(bad), pd.DataFrame(bad)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            check_X(estimator, given, reset=True)


@pytest.mark.parametrize(
    "given",
    [X + 1j, torch.as_tensor(X + 1j), sparse.csr_array(X + 1j), TensorDataset(torch.as_tensor(X + 1j))],
    ids=lambda given: type(given).__name__,
)
def test_complex_numbers_are_refused(estimator, given):
    with pytest.raises(ValueError, match="Complex data not supported"):
        check_X(estimator, given, reset=True)


@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.to_mkldnn])
def test_tensors_of_other_layouts_are_refused_with_the_remedy(estimator, convert):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        given = convert(torch.as_tensor(X).float())
    with pytest.raises(ValueError, match=r"layout torch\.(sparse_coo|sparse_csr|_mkldnn).*to_dense\(\)"):
        check_X(estimator, given, reset=True)


def test_texts_are_refused(estimator):
    with pytest.raises(ValueError, match="could not convert string to float|dtype='numeric' is not compatible"):
        check_X(estimator, np.array([["a", "b"], ["c", "d"]]), reset=True)


def test_datasets_that_cannot_be_drawn_from_by_number_are_refused(estimator):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(torch.zeros(3, 2))

    class LongStream(Stream):
        def __len__(self):
            return 3

    class Endless(Dataset):
        def __getitem__(self, position):
            return torch.zeros(2)

    for given in (Stream(), LongStream(), Endless()):
        with pytest.raises(TypeError, match="Dataset without a length.*map-style Dataset"):
            check_X(estimator, given, reset=True)


@pytest.mark.parametrize("items", [[torch.tensor(1.0)] * 3, [(np.array(1.0), 0)] * 3, TensorDataset(torch.ones(3))])
def test_items_that_are_single_numbers_are_refused(estimator, items):
    with pytest.raises(ValueError, match="items of X are single numbers.*at least one axis"):
        check_X(estimator, items, reset=True)


def test_items_that_are_no_numbers_are_refused(estimator):
    class Texts(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, position):
            return "a text", 0

    with pytest.raises(TypeError, match="item 0 has str"):
        check_X(estimator, Texts(), reset=True)


# --- X: what is handed on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [X, X.astype(np.float32), np.asfortranarray(X), X.astype(">f8"), X[:, ::2], torch.as_tensor(X.copy())],
    ids=["float64", "float32", "F", "big-endian", "strided", "tensor"],
)
def test_x_is_handed_on_without_a_copy(estimator, given):
    handed_on = check_X(estimator, given, reset=True).X
    if isinstance(given, torch.Tensor):
        assert handed_on.data_ptr() == given.data_ptr()
    else:
        assert np.shares_memory(handed_on, given)


def test_datasets_are_handed_on_as_they_are(estimator):
    dataset = TensorDataset(torch.as_tensor(X))
    assert check_X(estimator, dataset, reset=True).X is dataset


def test_tensors_that_need_a_gradient_are_used_without_it(estimator):
    inputs = check_X(estimator, torch.as_tensor(X).clone().requires_grad_(), reset=True)
    assert not inputs[torch.tensor([0])].requires_grad


class Column(Sequence):
    """A sequence that has the shape of a column, as some libraries wrap a Dataset for scikit-learn."""

    def __init__(self, items):
        self.items, self.shape = items, (len(items),)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        return self.items[position]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Column([torch.zeros(3)]), True),
        (Column([np.zeros(3)]), True),
        (Column([(np.zeros(3), 1)]), True),
        (Column([]), True),
        (Column([1.0, 2.0]), False),
        (np.zeros(3), False),
        (pd.Series([1.0, 2.0]), False),
        ([torch.zeros(3)], True),
        ((torch.zeros(3), torch.zeros(3)), True),
        ([(torch.zeros(3), 1)], True),
        ([(np.zeros(3), 1)], True),
        (TensorDataset(torch.zeros(2, 3)), True),
        ([[1.0, 2.0]], False),
        ([(1.0, 2.0)], False),
        ([np.zeros(3)], False),
        ([], False),
        ([()], False),
        (np.zeros((2, 3)), False),
        (torch.zeros(2, 3), False),
        (pd.DataFrame({"a": [1]}), False),
    ],
    ids=[
        "column of tensors",
        "column of arrays",
        "column of tuples",
        "empty column",
        "column of numbers",
        "one axis",
        "series",
        "tensors",
        "tuple of tensors",
        "tuples of a tensor",
        "tuples of an array",
        "Dataset",
        "lists",
        "tuples of numbers",
        "arrays",
        "nothing",
        "nothing in a tuple",
        "array",
        "tensor",
        "data frame",
    ],
)
def test_lists_of_tensors_and_of_tuples_that_start_with_x_are_items(given, expected):
    assert is_items(given) == expected


def test_lists_and_data_frames_are_tables(estimator):
    for given in (X.tolist(), [tuple(row) for row in X], list(X), pd.DataFrame(X)):
        assert check_X(estimator, given, reset=True)[torch.arange(6)].tolist() == X.astype(np.float32).tolist()


def test_arrays_of_other_libraries_are_taken_while_dispatch_is_on(estimator):
    foreign = array_api_strict.asarray(X)
    with config_context(array_api_dispatch=True):
        inputs = check_X(estimator, foreign, reset=True)
        assert inputs.to(CPU, torch.float64, as_indices=False)[torch.arange(6)].tolist() == X.tolist()
        assert check_y(estimator, array_api_strict.asarray(CODES), 6).tolist() == CODES.tolist()
        bad = array_api_strict.asarray(np.full((2, 3), np.nan))
        with pytest.raises(ValueError, match="NaN or infinity"):
            check_X(estimator, bad, reset=True)


# --- number and names of the features --------------------------------------------------------------------------------

FORMS = {
    "array": lambda x: x,
    "tensor": torch.as_tensor,
    "sparse": sparse.csr_array,
    "Dataset": lambda x: TensorDataset(torch.as_tensor(x)),
    "list of tensors": lambda x: list(torch.as_tensor(x)),
}


@pytest.mark.parametrize("form", FORMS)
def test_number_of_features_is_set_and_compared(estimator, form):
    check_X(estimator, FORMS[form](X), reset=True)
    assert estimator.n_features_in_ == 3
    check_X(estimator, FORMS[form](X[:2]), reset=False)
    with pytest.raises(ValueError, match="X has 2 features, but CoTeachingClassifier is expecting 3 features"):
        check_X(estimator, FORMS[form](X[:, :2]), reset=False)
    assert estimator.n_features_in_ == 3
    check_X(estimator, FORMS[form](X[:, :2]), reset=True)
    assert estimator.n_features_in_ == 2


@pytest.mark.parametrize("form", ["array", "tensor", "Dataset", "list of tensors"])
def test_second_axis_of_images_is_their_number_of_features(estimator, form):
    check_X(estimator, FORMS[form](np.zeros((2, 5, 4, 4))), reset=True)
    assert estimator.n_features_in_ == 5


def test_feature_names_are_set_compared_and_forgotten(estimator):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    check_X(estimator, frame, reset=True)
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c"]
    check_X(estimator, frame, reset=False)
    with pytest.raises(ValueError, match="feature names should match"):
        check_X(estimator, frame[["b", "a", "c"]], reset=False)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        check_X(estimator, X, reset=False)
    check_X(estimator, X, reset=True)
    assert not hasattr(estimator, "feature_names_in_")


# --- the form of X at predict ----------------------------------------------------------------------------------------


def form_of(dtype, *item_shape, as_indices=False):
    return Inputs(np.ones((2, *item_shape), dtype), as_indices=as_indices).form


def images(dtype):
    return form_of(dtype, 1, 4, 4)


@pytest.mark.parametrize(("fitted", "given"), [("uint8", "float32"), ("float64", "uint8"), ("int64", "uint8")])
def test_bytes_and_other_numbers_of_images_are_not_mixed(fitted, given):
    with pytest.raises(ValueError, match="(?s)X holds .* but Name was fitted on .*uint8 images are divided by 255"):
        check_form(images(given), images(fitted), "Name")


@pytest.mark.parametrize(("fitted", "given"), [("float32", "float64"), ("int32", "int64"), ("uint8", "uint8")])
def test_images_of_the_same_kind_are_the_same_form(fitted, given):
    check_form(images(given), images(fitted), "Name")


@pytest.mark.parametrize("fitted", ["uint8", "bool", "int64", "float32", "float64"])
@pytest.mark.parametrize("given", ["uint8", "bool", "int64", "float32", "float64"])
def test_numbers_of_tables_are_the_same_form_in_every_dtype(fitted, given):
    check_form(form_of(given, 3), form_of(fitted, 3), "Name")


def test_indices_and_floats_are_not_mixed():
    fitted = form_of(np.int64, 3, as_indices=True)
    check_form(form_of(np.uint8, 3), fitted, "Name")
    with pytest.raises(ValueError, match="X holds floating point numbers, but Name was fitted on integers"):
        check_form(form_of(float, 3), fitted, "Name")


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 4), (1, 4), (16,)])
def test_examples_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"examples of shape \(.*\), but Name was fitted on examples of shape \(1, 4"):
        check_form(form_of(float, *shape), images(float), "Name")


# --- y ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0.0, 1.0, np.nan, 0.0, 1.0, 0.0], "Input y contains NaN"),
        (torch.tensor([0.0, 1.0, torch.nan, 0.0, 1.0, 0.0]), "Input y contains NaN"),
        (pd.Series(["a", None, "a", "b", "b", "a"]), "contains NaN"),
        (np.array(["a", None, "a", "b", "b", "a"], dtype=object), "Input y contains None.*remove the rows without one"),
        (np.array([None, "b", "a", "b", "b", "a"], dtype=object), "Input y contains None"),
        ([0, 1, 0, 1, 0], "X and y have different lengths: 6 examples and 5 labels"),
        (torch.zeros(7, dtype=torch.int64), "X and y have different lengths: 6 examples and 7 labels"),
        (np.zeros((6, 2), dtype=int), r"y should be a 1d array, got an array of shape \(6, 2\)"),
        (torch.zeros(6, 2), r"y should be a 1d array, got an array of shape \(6, 2\)"),
        (X[:, 0], "Unknown label type: continuous"),
        (np.array(["a", 1, "a", 1, "b", 2], dtype=object), "labels in y cannot be sorted, they are of different types"),
        (np.array([0, 1] * 3) * 1j, "Complex data not supported"),
        ("cat", "y should be a 1d array"),
    ],
    ids=str,
)
def test_labels_that_cannot_be_used_are_refused_in_the_users_words(estimator, y, message):
    with pytest.raises(ValueError, match=message):
        check_y(estimator, y, 6)


def test_a_column_of_labels_is_taken_with_scikit_learns_warning(estimator):
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        assert check_y(estimator, CODES[:, None], 6).tolist() == CODES.tolist()


@pytest.mark.parametrize(
    "y",
    [
        CODES,
        CODES.tolist(),
        CODES.astype(float),
        CODES.astype(np.uint8),
        torch.as_tensor(CODES),
        pd.Series(CODES, index=range(6, 0, -1)),
        np.array(list("aaabbc")),
        np.array(list("aaabbc"), dtype=object),
        pd.Series(list("aaabbc")),
        pd.Series(list("aaabbc"), dtype="category"),
        CODES - 10,
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_labels_of_every_kind_become_the_same_codes(estimator, y):
    classes, codes = encode(check_y(estimator, y, 6), None)
    assert codes.tolist() == CODES.tolist()
    assert list(classes) == sorted(set(y.tolist() if hasattr(y, "tolist") else y))


def test_bools_are_labels(estimator):
    classes, codes = encode(check_y(estimator, CODES > 0, 6), None)
    assert classes.tolist() == [False, True]
    assert codes.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("label", [0, "only", False])
def test_a_single_class_is_refused_and_named(label):
    with pytest.raises(ValueError, match=rf"At least two classes.*got 1 class: \[{label!r}\]"):
        encode(np.array([label] * 6), None)


def test_codes_are_positions_among_the_given_classes():
    classes, codes = encode(np.array([5, 1, 5]), np.array([1, 3, 5, 7]))
    assert (classes.tolist(), codes.tolist()) == ([1, 3, 5, 7], [2, 0, 2])


@pytest.mark.parametrize("y", [[1, 4, 9], ["a", "b", "c"], [1.5, 1.0, 3.0]])
def test_labels_that_are_not_among_the_classes_are_refused_and_named(y):
    unknown = [label for label in y if label not in (1, 3)]
    with pytest.raises(ValueError, match="labels that are not among the classes") as raised:
        encode(np.array(y), np.array([1, 3]))
    assert str(unknown) in str(raised.value)


# --- weights ---------------------------------------------------------------------------------------------------------

WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.25])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 1, 1, 1, 1, -1], "(?i)negative values in data passed to `?sample_weight"),
        ([1, 1, 1, 1, 1, np.nan], "(?i)sample_weight contains NaN"),
        ([1, 1, 1, 1, 1, np.inf], "(?i)sample_weight contains infinity"),
        ([0] * 6, "(?i)sample weights must contain at least one non-zero"),
        ([1] * 5, r"sample_weight.shape == \(5,\), expected \(6,\)"),
        (np.ones((6, 2)), "Sample weights must be 1D"),
        (torch.ones(6, 1), "Sample weights must be 1D"),
        (["a"] * 6, "could not convert string to float"),
    ],
    ids=str,
)
def test_weights_that_cannot_be_used_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, None, CLASSES, CODES)


@pytest.mark.parametrize(
    "make", [list, np.float32, torch.as_tensor, pd.Series, lambda w: pd.Series(w, index=range(6, 0, -1))]
)
def test_weights_of_every_kind_are_one_float64_per_example(make):
    weights = check_weights(make(WEIGHTS), None, CLASSES, CODES)
    assert weights.dtype == np.float64
    assert weights.tolist() == WEIGHTS.tolist()


def test_no_weights_are_ones_and_a_given_array_is_not_changed():
    assert check_weights(None, None, CLASSES, CODES).tolist() == [1.0] * 6
    given = WEIGHTS.copy()
    check_weights(given, {0: 7}, CLASSES, CODES)[:] = -1
    assert given.tolist() == WEIGHTS.tolist()


def test_class_weight_multiplies_the_sample_weight_and_unnamed_classes_have_weight_one():
    weights = check_weights(WEIGHTS, {0: 2, 2: 0}, CLASSES, CODES)
    assert weights.tolist() == [2.0, 1.0, 4.0, 0.0, 3.0, 0.0]


def test_class_weight_names_classes_as_the_user_does():
    weights = check_weights(None, {"dog": 3}, np.array(["cat", "dog", "eel"]), CODES)
    assert weights.tolist() == [1.0, 1.0, 1.0, 3.0, 3.0, 1.0]


@pytest.mark.parametrize("dtype", [bool, float])
def test_class_weight_finds_bools_and_floats(dtype):
    assert check_weights(None, {1: 3}, np.array([0, 1], dtype), np.array([0, 1])).tolist() == [1.0, 3.0]


def test_balanced_is_of_the_weighted_counts():
    """n_samples / (n_classes * count of the class), where the counts are weights: every class weighs the same."""
    weights = np.array([1.0, 0.5, 2.0, 0.5, 3.0, 0.25])
    totals = [3.5, 3.5, 0.25]
    factors = [7.25 / (3 * total) for total in totals]
    balanced = check_weights(weights, "balanced", CLASSES, CODES)
    assert balanced.tolist() == pytest.approx([w * factors[c] for w, c in zip(weights, CODES, strict=True)], rel=1e-14)
    assert np.bincount(CODES, balanced).tolist() == pytest.approx([7.25 / 3] * 3)


def test_balanced_looks_at_classes_that_have_weight_only():
    """As if the examples of weight 0 were not there: two classes are left."""
    balanced = check_weights([1, 1, 1, 1, 0, 0], "balanced", CLASSES, CODES)
    assert balanced.tolist() == pytest.approx([4 / (2 * 3)] * 3 + [4 / 2, 0, 0])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1, 7: 2}, r"class_weight names classes that are not in y: \[7\]. y has \[0, 1, 2\]"),
        ({0: -1}, "class_weight must hold finite weights of 0 or more"),
        ({0: np.nan}, "class_weight must hold finite weights of 0 or more"),
        ({0: None}, "class_weight must hold finite weights of 0 or more"),
        ({0: np.inf}, "class_weight must hold finite weights of 0 or more"),
        ({0: 0, 1: 0, 2: 0}, "class_weight gives every example weight zero"),
    ],
    ids=str,
)
def test_class_weights_that_cannot_be_used_are_refused(class_weight, message):
    with pytest.raises(ValueError, match=message):
        check_weights(None, class_weight, CLASSES, CODES)


def test_class_weight_and_sample_weight_may_not_leave_nothing_together():
    with pytest.raises(ValueError, match="class_weight gives every example weight zero"):
        check_weights([1, 1, 1, 0, 0, 0], {0: 0}, CLASSES, CODES)


def test_class_weight_of_all_classes_may_name_more():
    """As in scikit-learn: one dict serves the folds of a cross-validation in which a class is missing."""
    assert check_weights(None, {0: 1, 1: 2, 2: 3, 3: 4}, CLASSES, CODES).tolist() == [1, 1, 1, 2, 2, 3]


# --- all of it -------------------------------------------------------------------------------------------------------


def test_what_was_handed_over_is_checked_and_the_estimator_not_changed(estimator):
    estimator.set_params(class_weight={"b": 4})
    before = dict(vars(estimator))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    data = validate(estimator, frame, list("aaabbc"), WEIGHTS, reset=True)
    assert vars(estimator) == before
    assert data.X is frame
    assert data.inputs[torch.arange(6)].tolist() == X.astype(np.float32).tolist()
    assert (data.classes.tolist(), data.codes.tolist()) == (["a", "b", "c"], CODES.tolist())
    assert data.sample_weights.tolist() == WEIGHTS.tolist()
    assert data.weights.tolist() == (WEIGHTS * [1, 1, 1, 4, 4, 1]).tolist()
    assert data.columns["n_features_in_"] == 3
    assert data.columns["feature_names_in_"].tolist() == ["a", "b", "c"]


def test_columns_of_an_earlier_fit_are_compared_with_or_forgotten(estimator):
    check_X(estimator, pd.DataFrame(X, columns=["a", "b", "c"]), reset=True)
    with pytest.raises(ValueError, match="feature names should match"):
        validate(estimator, pd.DataFrame(X, columns=["c", "b", "a"]), CODES, None, CLASSES, reset=False)
    assert validate(estimator, X[:, :2], CODES, None, reset=True).columns == {"n_features_in_": 2}
    assert estimator.n_features_in_ == 3


def test_later_data_need_not_have_all_classes(estimator):
    check_X(estimator, X, reset=True)
    data = validate(estimator, X, [2, 0, 2, 0, 2, 0], None, CLASSES, reset=False)
    assert (data.classes.tolist(), data.codes.tolist()) == ([0, 1, 2], [2, 0, 2, 0, 2, 0])


@pytest.mark.parametrize(
    "classes", [[2, 0, 1], np.array([1, 0, 2, 1]), torch.tensor([0, 1, 2]), pd.Series([2, 1, 0])], ids=repr
)
def test_classes_are_sorted_and_named_once(classes):
    assert sorted_classes(classes).tolist() == [0, 1, 2]
    assert isinstance(sorted_classes(classes), np.ndarray)


@pytest.mark.parametrize(
    ("classes", "message"),
    [([0.0, np.nan, 1.0], "classes contains NaN"), ([[0, 1], [2, 3]], "1d array"), ("ab", "1d array")],
    ids=str,
)
def test_classes_that_are_no_labels_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        sorted_classes(classes)
