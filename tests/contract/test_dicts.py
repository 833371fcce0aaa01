"""X as a dict of arrays, which reach ``forward`` as keywords; and outputs that hold their logits."""

import copy
import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import StopAfter, assert_same_fit, assert_same_weights, auto, fast, images, noisy_blobs
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import Dataset, StackDataset, Subset

import skcoteach
from skcoteach.networks import MLP

pytestmark = pytest.mark.filterwarnings("error")

N = 120


@dataclass
class Output:
    logits: torch.Tensor
    loss: None = None


class Reader(nn.Module):
    """For token ids and a mask, as a transformer has them."""

    def __init__(self, n_classes, hidden=4):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(20, hidden), nn.Linear(hidden, n_classes)

    def forward(self, input_ids, attention_mask):
        assert (input_ids.dtype, attention_mask.dtype) == (torch.int64, torch.bool)
        seen = attention_mask[..., None].to(self.linear.weight.dtype)
        return Output(self.linear((self.embedding(input_ids) * seen).sum(1) / seen.sum(1).clamp(min=1)))


def texts(n=N):
    """Six tokens each, of ten that stand for class 0 or ten others; up to two are masked. And the labels."""
    rng, y = np.random.default_rng(0), np.arange(n) % 2
    mask = np.ones((n, 6), dtype=bool)
    mask[:, 4:] = rng.random((n, 2)) < 0.5
    return {"input_ids": rng.integers(0, 10, (n, 6)) + 10 * y[:, None], "attention_mask": mask}, y


def reader(**parameters):
    return fast(**{"module": Reader, "epochs": 8, "lr": 0.05, "batch_size": 32} | parameters)


@pytest.fixture(scope="module")
def fitted():
    """To texts."""
    X, y = texts()
    return reader().fit(X, y), X, y


class Items(Dataset):
    """Its items are dicts, alone or with a label that is nonsense."""

    def __init__(self, X, *, labelled=False):
        self.X, self.labelled = X, labelled

    def __len__(self):
        return len(next(iter(self.X.values())))

    def __getitem__(self, i):
        x = {key: each[i] for key, each in self.X.items()}
        return (x, "not a label") if self.labelled else x


# what is the same


KINDS = {
    "tensors": lambda X: {key: torch.from_numpy(each) for key, each in X.items()},
    "other order": lambda X: dict(reversed(X.items())),
    "other integers": lambda X: X | {"input_ids": X["input_ids"].astype(np.int32)},
    "lists": lambda X: {key: each.tolist() for key, each in X.items()},
    "strided": lambda X: {key: np.repeat(each, 2, axis=1)[:, ::2] for key, each in X.items()},
    "StackDataset": lambda X: StackDataset(**X),
    "StackDataset of lists": lambda X: StackDataset(**{key: list(each) for key, each in X.items()}),
    "Subset": lambda X: Subset(StackDataset(**X), range(N)),
    "Dataset": Items,
    "labelled Dataset": lambda X: Items(X, labelled=True),
    "list of items": lambda X: list(Items(X)),
    "list of labelled items": lambda X: list(Items(X, labelled=True)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_dict_gives_the_same_bits(kind, fitted):
    expected, X, y = fitted
    data = KINDS[kind](X)
    estimator = reader().fit(data, y)
    assert_same_fit(estimator, expected, X)
    assert_array_equal(expected.predict_proba(data), expected.predict_proba(X))
    assert_array_equal(expected.predict_log_proba(data), expected.predict_log_proba(X))
    assert expected.score(data, y) == expected.score(X, y) > 0.9
    assert not hasattr(estimator, "n_features_in_")


def test_memory_maps_give_the_same_bits(fitted, tmp_path):
    expected, X, y = fitted
    for key, each in X.items():
        np.save(tmp_path / f"{key}.npy", each)
    mapped = {key: np.load(tmp_path / f"{key}.npy", mmap_mode="r") for key in X}
    assert_same_fit(reader().fit(mapped, y), expected, mapped)


class Named(nn.Module):
    """A network whose ``forward`` can be given an array, or an entry of a dict."""

    def __init__(self, n_classes, n_features=5):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_features, 8), nn.Dropout(), nn.Linear(8, n_classes))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("options", [{}, {"average_decay": 0.9}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_dict_of_one_array_of_floats_is_the_array(dtype, options):
    X, given, _ = noisy_blobs("symmetric", 0.2, n=200)
    X, weight = X.astype(dtype), np.random.default_rng(0).random(200)
    estimators = [fast(module=Named, **options).fit(each, given, weight) for each in (X, {"x": X})]
    assert_same_weights(*estimators)
    assert_array_equal(estimators[0].predict_proba(X), estimators[1].predict_proba({"x": X}))
    assert_array_equal(estimators[0].label_quality_, estimators[1].label_quality_)


def test_a_dict_of_images_is_divided_by_255_as_images_are():
    X, y = images()
    estimators = [fast(module=Named, module__n_features=64).fit(each, y) for each in (X, {"x": X})]
    assert_same_weights(*estimators)
    with pytest.raises(ValueError, match=r"X\['x'\] holds floating point numbers, but .* fitted on uint8 images"):
        estimators[1].predict({"x": X / 255})


def test_the_noise_is_found_as_in_an_array():
    X, given, _ = noisy_blobs("symmetric", 0.2)
    estimators = [auto(module=Named, lr=0.02).fit(each, given) for each in (X, {"x": X}, StackDataset(x=X))]
    assert estimators[0].noise_rate_ == pytest.approx(0.2, abs=0.05)
    for each in estimators[1:]:
        assert_same_weights(each, estimators[0])
        assert each.noise_rate_ == estimators[0].noise_rate_
        assert each.get_label_issues().equals(estimators[0].get_label_issues())


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_floats_become_the_precision_of_the_training_and_nothing_else_does(precision):
    dtypes = []

    class Mixed(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.linear = nn.Linear(2, n_classes)

        def forward(self, **entries):
            dtypes.append([each.dtype for each in entries.values()])
            return self.linear(torch.stack([entries["age"], entries["count"].to(entries["age"])], 1))

    X, y = texts(40)
    X = {"count": X["input_ids"][:, 0].astype(np.uint16), "age": np.linspace(0, 1, 40), "known": np.arange(40) > 3}
    fast(module=Mixed, precision=precision).fit(X, y).predict(X)
    floats = torch.float64 if precision == "float64" else torch.float32
    assert all(each == [floats, torch.int64, torch.bool] for each in dtypes)  # in the order of the keys


def test_nothing_is_changed_by_networks_that_work_in_place():
    class InPlace(Named):
        def forward(self, x):
            return super().forward(x.mul_(2))

    X, given, _ = noisy_blobs("symmetric", 0.2, n=100)
    before = X.copy()
    estimators = [fast(module=InPlace).fit(each, given) for each in (X, {"x": X}, {"x": torch.from_numpy(X)})]
    for each in estimators[1:]:
        assert_same_weights(each, estimators[0])
        each.predict({"x": X})
    assert_array_equal(X, before)


# scikit-learn


def test_a_dataset_of_dicts_is_cross_validated_and_searched_and_a_dict_goes_through_a_pipeline(fitted):
    expected, X, y = fitted
    data = StackDataset(**X)
    assert (cross_val_score(reader(), data, y, cv=3) > 0.8).all()
    assert cross_val_predict(reader(), data, y, cv=3, method="predict_proba").shape == (N, 2)
    search = GridSearchCV(reader(), {"module__hidden": [1, 4]}, cv=2, error_score="raise").fit(data, y)
    assert search.best_estimator_.modules_[0].embedding.embedding_dim in (1, 4)
    assert_array_equal(make_pipeline("passthrough", reader()).fit(X, y).predict(X), expected.predict(X))
    assert_same_weights(clone(expected).fit(data, y), expected)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):  # scikit-learn's, who asks nobody
        cross_val_score(reader(), X, y, cv=3)


def test_a_fit_to_a_dict_after_one_to_a_table_knows_of_no_columns(fitted):
    expected, X, y = fitted
    estimator = fast().fit(np.zeros((N, 3)) + y[:, None], y)
    assert estimator.n_features_in_ == 3
    estimator.set_params(**expected.get_params()).fit(X, y)
    assert not hasattr(estimator, "n_features_in_")
    with pytest.raises(ValueError, match="X is an array.*, but .* was fitted on a dict of attention_mask, input_ids"):
        estimator.predict(X["input_ids"])
    fast().fit(np.zeros((N, 3)) + y[:, None], y)


def test_partial_fit_goes_on_from_a_fit_and_refuses_other_keys(fitted):
    expected, X, y = fitted
    estimator = copy.deepcopy(expected)
    assert estimator.partial_fit(StackDataset(**X), y).n_iter_ == 9
    fresh = reader().partial_fit(X, y, classes=[0, 1])
    assert fresh.n_iter_ == 1
    with pytest.raises(ValueError, match="X has the entries input_ids, but .* was fitted on attention_mask, input_ids"):
        fresh.partial_fit({"input_ids": X["input_ids"]}, y)


# travel


def test_it_is_pickled_and_saved(fitted, tmp_path):
    estimator, X, _ = fitted
    skcoteach.save(estimator, tmp_path / "file")
    loaded = skcoteach.load(tmp_path / "file", module=Reader)
    for other in (pickle.loads(pickle.dumps(estimator)), loaded):
        assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))
        assert not hasattr(other, "n_features_in_")
        with pytest.raises(ValueError, match=r"X\['attention_mask'\] holds integers, but .* fitted on bools"):
            other.predict(X | {"attention_mask": X["attention_mask"].astype(int)})


def test_lazy_layers_are_saved(tmp_path):
    class Lazy(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.embedding, self.linear = nn.Embedding(20, 4), nn.LazyLinear(n_classes)

        def forward(self, input_ids, attention_mask):
            return self.linear(self.embedding(input_ids).masked_fill(~attention_mask[..., None], 0).flatten(1))

    X, y = texts()
    estimator = reader(module=Lazy).fit(X, y)
    skcoteach.save(estimator, tmp_path / "file")
    loaded = skcoteach.load(tmp_path / "file", module=Lazy)
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


class Killed(StopAfter):
    """Ends the process, as it were."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator):
            raise MemoryError


def test_a_fit_that_was_killed_goes_on_and_ends_with_the_same_bits(fitted, tmp_path, monkeypatch):
    expected, X, y = fitted
    monkeypatch.setattr("skcoteach._checkpoint.SECONDS_BETWEEN_WRITES", 0)
    with pytest.raises(MemoryError):
        reader(checkpoint=tmp_path).set_callbacks(Killed(3)).fit(X, y)
    (file,) = tmp_path.glob("*.checkpoint")
    resumed = reader(checkpoint=tmp_path, verbose=1).fit(dict(reversed(X.items())), y)
    assert list(tmp_path.glob("*.checkpoint")) == [file]
    assert_same_weights(resumed, expected)


def test_dicts_of_other_content_have_files_of_their_own(tmp_path):
    X, y = texts(40)
    mask = X["attention_mask"].copy()
    mask[3, 0] = False
    swapped = {"input_ids": X["attention_mask"].astype(int), "attention_mask": X["input_ids"] > 9}
    for number, each in enumerate([X, X | {"attention_mask": mask}, swapped, StackDataset(**swapped), list(Items(X))]):
        reader(checkpoint=tmp_path, epochs=1).fit(each, y)
        assert len(list(tmp_path.glob("*.checkpoint"))) == [1, 2, 3, 3, 4][number]


def test_the_same_array_by_another_key_has_a_file_of_its_own(tmp_path):
    class Any(Named):
        def forward(self, **entries):
            return super().forward(*entries.values())

    X, given, _ = noisy_blobs("symmetric", 0.2, n=60)
    for key in ("x", "y", "x"):
        fast(module=Any, checkpoint=tmp_path, epochs=1).fit({key: X}, given)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2


# augment


def test_augment_gets_and_returns_the_dict(fitted):
    expected, X, y = fitted

    def augment(batch):
        assert list(batch) == ["attention_mask", "input_ids"]
        batch["attention_mask"] = batch["attention_mask"] & True
        return dict(reversed(batch.items()))

    assert_same_weights(reader(augment=augment).fit(X, y), expected)


@pytest.mark.parametrize(
    ("augment", "error", "words"),
    [
        (lambda b: b["input_ids"], TypeError, "a dict with the keys attention_mask, input_ids.* returned a Tensor"),
        (lambda b: b.pop("input_ids") is None or b, ValueError, "returned one with the keys attention_mask"),
        (lambda b: b | {"input_ids": b["input_ids"].float()}, TypeError, "32 rows for 'input_ids', torch.int64"),
        (lambda b: b | {"input_ids": b["input_ids"][1:]}, ValueError, r"for 'input_ids'.*shape \(31, 6\)"),
        (lambda b: b | {"input_ids": b["input_ids"] + 20}, ValueError, "Reader cannot take .* index out of range"),
    ],
    ids=["tensor", "keys", "dtype", "length", "values"],
)
def test_what_augment_must_not_return(augment, error, words):
    with pytest.raises(error, match=words):
        reader(augment=augment).fit(*texts())


def test_a_dict_of_augment_that_the_networks_cannot_take_is_told_with_both_shapes():
    X, given, _ = noisy_blobs("symmetric", 0.2, n=64)
    words = r"given a dict of shape {'x': \(64, 5\)} and returned one of shape {'x': \(64, 3\)}, which the networks"
    with pytest.raises(ValueError, match=words):
        fast(module=Named, augment=lambda batch: {"x": batch["x"][:, :3]}).fit({"x": X}, given)


# what is refused


X, Y = texts(40)
BAD = {
    "nothing": ({}, "X is a dict without entries"),
    "a key that is no name": ({"input ids": X["input_ids"]}, "must be strings that could be names; got 'input ids'"),
    "a key that is taken": (X | {"self": X["input_ids"]}, "must be strings that could be names; got 'self'"),
    "a number as key": ({0: X["input_ids"]}, "must be strings that could be names; got 0"),
    "lengths": (X | {"attention_mask": X["attention_mask"][1:]}, "equally long.*attention_mask: 39, input_ids: 40"),
    "text": (X | {"input_ids": ["oak"] * 40}, r"X\['input_ids'\] cannot be used"),
    "objects": (X | {"input_ids": [{}] * 40}, r"X\['input_ids'\] must hold numbers"),
    "ragged": (X | {"input_ids": [[1], *[[1, 2]] * 39]}, r"X\['input_ids'\] cannot be used"),
    "NaN": (X | {"input_ids": np.full((40, 2), np.nan)}, r"Input X\['input_ids'\] contains NaN"),
    "infinity": (X | {"input_ids": torch.full((40, 2), torch.inf)}, r"Input X\['input_ids'\] contains NaN or infinity"),
    "complex": (X | {"input_ids": torch.ones(40, dtype=torch.complex64)}, r"Complex .*X\['input_ids'\] is a tensor"),
    "no numbers": (X | {"input_ids": np.empty((40, 0))}, r"X\['input_ids'\] with 0 feature"),
    "no examples": ({key: each[:0] for key, each in X.items()}, "with 0 sample"),
    "one number": (X | {"input_ids": 3}, r"X\['input_ids'\] must hold numbers for each example"),
    "a tensor of one number": (X | {"input_ids": torch.tensor(3)}, r"X\['input_ids'\] is a tensor without axes"),
    "masked": (X | {"input_ids": np.ma.masked_less(X["input_ids"], 5)}, r"X\['input_ids'\] is a masked array"),
    "unknown": (X | {"other": Y}, "Reader does not take the entries of X, attention_mask, input_ids, other, .*keyword"),
    "missing": ({"input_ids": X["input_ids"]}, "Reader does not take the entries of X, input_ids, .*attention_mask"),
    "out of range": (X | {"input_ids": X["input_ids"] + 20}, r"input_ids \(2, 6\) torch.int64: index out of range"),
    "other keys in an item": ([*list(Items(X))[1:], {"input_ids": X["input_ids"][0]}], "same keys.*item 39 has input_"),
    "shapes of items": (
        [*list(Items(X))[1:], {key: each[0, :3] for key, each in X.items()}],
        r"items of X\['attention_mask'\] have different shapes: \(6,\) and \(3,\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_told_with_its_key(name):
    data, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        reader().fit(data, Y)


@pytest.mark.parametrize("entry", [StackDataset(a=X["input_ids"]), {"a": 1}, "oak"], ids=["Dataset", "dict", "text"])
def test_entries_that_are_no_arrays_are_refused(entry):
    with pytest.raises(TypeError, match=r"X\['input_ids'\] is a \w+; the entries of a dict must be arrays"):
        reader().fit(X | {"input_ids": entry}, Y)


def test_items_of_different_kinds_are_refused():
    class Ages(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.linear = nn.Linear(1, n_classes)

        def forward(self, age):
            return self.linear(age[:, None].float())

    items = [{"age": np.int64(1)}] * 39 + [{"age": np.float64(0.5)}]
    with pytest.raises(ValueError, match=r"items of X\['age'\] are of different kinds"):
        fast(module=Ages).fit(items, Y)


@pytest.mark.parametrize("data", [X, StackDataset(**X), list(Items(X))], ids=["dict", "StackDataset", "list"])
def test_there_is_no_default_network_for_a_dict(data):
    with pytest.raises(ValueError, match="module=None makes a network for arrays.*Give a module .* as keywords"):
        fast().fit(data, Y)


def test_sizes_of_an_example_are_no_sizes_of_a_dict():
    with pytest.raises(ValueError, match="needs n_features: give module__n_features.*not known where X is a dict"):
        fast(module=lambda n_features, n_classes: None).fit(X, Y)


def test_layers_that_cannot_be_set_from_the_data_are_told_of():
    class Wrapped(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.mlp = MLP(6, n_classes)

        def forward(self, input_ids, attention_mask):
            return self.mlp(input_ids.to(torch.float32) * attention_mask)

    with pytest.warns(UserWarning, match="Standardize layers .* cannot be set from the data"):
        fast(module=Wrapped).fit(X, Y)


def test_columns_that_lose_their_digits_are_told_with_their_key():
    table = 1e9 + np.linspace(0, 1, 40)
    with pytest.warns(UserWarning, match=r"Column\(s\) 0 of X\['x'\]: float32 does not hold"):
        fast(module=Named, module__n_features=1).fit({"x": table[:, None]}, Y)


PREDICTED = {
    "missing": (
        lambda X: {"input_ids": X["input_ids"]},
        "X has the entries input_ids, but .* attention_mask, input_ids",
    ),
    "shape": (lambda X: X | {"input_ids": X["input_ids"][:, :5]}, r"X\['input_ids'\] has examples of shape \(5,\)"),
    "kind": (lambda X: X | {"input_ids": X["input_ids"] / 2}, r"X\['input_ids'\] holds floating point numbers"),
    "array": (lambda X: X["input_ids"], "X is an array.*was fitted on a dict"),
    "lengths": (lambda X: X | {"input_ids": X["input_ids"][1:]}, "equally long"),
}


@pytest.mark.parametrize("name", PREDICTED)
def test_other_inputs_than_those_of_fit_are_refused_with_their_key(name, fitted):
    estimator, X, _ = fitted
    change, words = PREDICTED[name]
    with pytest.raises(ValueError, match=words):
        estimator.predict(change(X))


def test_a_dict_is_refused_where_an_array_was_fitted():
    estimator = fast(module=Named, module__n_features=6).fit(X["input_ids"].astype(float), Y)
    with pytest.raises(ValueError, match="X is a dict of attention_mask, input_ids.* was fitted on an array"):
        estimator.predict(X)


# outputs


def holding(output):
    """The network whose logits are held by something."""

    class Holding(Named):
        def forward(self, x):
            return output(super().forward(x))

    return Holding


@pytest.mark.parametrize("output", [Output, lambda logits: SimpleNamespace(logits=logits, hidden=None)])
def test_outputs_may_hold_their_logits_whatever_x_is(output):
    X, given, _ = noisy_blobs("symmetric", 0.2)
    expected = auto(module=Named).fit(X, given)
    estimator = auto(module=holding(output)).fit(X, given)
    assert_same_weights(estimator, expected)
    assert estimator.noise_rate_ == expected.noise_rate_
    assert_array_equal(estimator.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (lambda logits: (logits,), "tuple"),
        (lambda logits: {"logits": logits}, "dict"),
        (lambda logits: SimpleNamespace(logits=None), "SimpleNamespace"),
        (lambda logits: SimpleNamespace(logits=(logits,)), "SimpleNamespace"),
    ],
)
def test_outputs_without_a_tensor_of_logits_are_refused(output, kind):
    X, given, _ = noisy_blobs("symmetric", 0.2, n=60)
    with pytest.raises(TypeError, match=f"must return a tensor of raw logits; it returned a {kind}. An object with"):
        fast(module=holding(output)).fit(X, given)


def test_a_model_of_transformers_is_a_module():
    transformers = pytest.importorskip("transformers")

    def bert(n_classes):
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = transformers.BertConfig(vocab_size=20, num_labels=n_classes, max_position_embeddings=8, **sizes)
        return transformers.AutoModelForSequenceClassification.from_config(config)

    X, y = texts(40)
    estimator = reader(module=bert, epochs=1).fit(X, y)
    assert estimator.predict_proba(X).shape == (40, 2)
    assert_allclose(estimator.predict_proba(X), estimator.predict_proba(X))  # without dropout
    weights = [dict(network.named_parameters()) for network in estimator.modules_]
    assert not any(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# --- datasets of Hugging Face ----------------------------------------------------------------------------------------


def test_a_dataset_of_hugging_face_in_torch_format_is_a_dict_of_its_columns(monkeypatch):
    datasets = pytest.importorskip("datasets")
    X, y = texts()
    rows = datasets.Dataset.from_dict({name: each.tolist() for name, each in X.items()} | {"label": y.tolist()})
    rows = rows.with_format("torch")
    inputs, asked = rows.remove_columns("label"), []
    one = datasets.Dataset.__getitem__
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda rows, key: (asked.append(key), one(rows, key))[1])
    estimator = reader().fit(inputs, y)
    assert (
        sum(isinstance(key, int) for key in asked)
        < 10
        < sum(map(len, filter(lambda key: isinstance(key, list), asked)))
    )
    assert_same_fit(estimator, reader().fit(X, y), X)
    assert_array_equal(estimator.predict_proba(inputs), estimator.predict_proba(X))
    assert_array_equal(reader().fit(inputs, rows["label"]).classes_, [0, 1])
    with pytest.raises(ValueError, match="label.*input_ids, attention_mask|attention_mask, input_ids, label"):
        estimator.predict(rows)
