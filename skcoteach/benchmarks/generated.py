"""Input as nobody would think of it: cases that are drawn by a number, and the judge of what comes of each.

A case is a call with good ingredients and up to three that are not. What is promised of all of them: it works, or
raises a ValueError or TypeError in the user's words, or what the user's own code has raised; and nothing is changed
that was there before. A broken promise is a :class:`Violation`, and ``case(seed)`` makes the same case again.
"""

import collections
import contextlib
import copy
import dataclasses
import functools
import io
import operator
import os
import random
import re
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks import ingredients
from skcoteach.benchmarks.ingredients import (
    AUGMENTS,
    BAD,
    CALLBACKS,
    CLASSES,
    GOOD,
    IMAGES,
    LABELS,
    MODULES,
    OPTIMIZERS,
    PARAMETERS,
    SURROUNDINGS,
    TABLES,
    WEIGHTS,
    ArrayLike,
    Draw,
    Ingredient,
    Items,
    OwnError,
)

#: Methods, and how often each is called.
METHODS = {
    "fit": 0.4, "refit": 0.2, "partial_fit": 0.08, "second partial_fit": 0.08, "predict": 0.05, "predict_proba": 0.06,
    "predict_log_proba": 0.03, "score": 0.07, "get_label_issues": 0.03,
}  # fmt: skip
#: How often so many ingredients are not good.
N_SPOILT = {0: 0.12, 1: 0.53, 2: 0.23, 3: 0.12}
#: Which parts a method looks at.
OF_TRAINING = ("X", "y", "sample_weight", "parameter", "optimizer", "augment")
PARTS = {
    "fit": (*OF_TRAINING, "module", "callbacks"), "refit": (*OF_TRAINING, "module", "callbacks"),
    "partial_fit": (*OF_TRAINING, "module", "classes"), "second partial_fit": OF_TRAINING, "predict": ("X",),
    "predict_proba": ("X",), "predict_log_proba": ("X",), "score": ("X", "y", "sample_weight"), "get_label_issues": (),
}  # fmt: skip
TRAINING = ("fit", "refit", "partial_fit", "second partial_fit")
AFTER_A_FIT = (
    "refit", "second partial_fit", "predict", "predict_proba", "predict_log_proba", "score", "get_label_issues",
)  # fmt: skip
#: Of the fit before.
PLAIN: dict[str, Any] = {"forget_rate": 0.2, "epochs": 1, "batch_size": 32, "random_state": 0, "precision": "float32"}
USERS_OWN = "the user's own"
TABLE_OF = {
    "y": LABELS, "sample_weight": WEIGHTS, "parameter": PARAMETERS, "module": MODULES, "optimizer": OPTIMIZERS,
    "augment": AUGMENTS, "callbacks": CALLBACKS, "classes": CLASSES,
}  # fmt: skip

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep
_SKLEARN = os.path.dirname(os.path.realpath(sklearn.__file__)) + os.sep
_USERS = os.path.realpath(ingredients.__file__)


class Violation(AssertionError):
    """A promise was broken: says which, of which case."""


@dataclass
class Case:
    """A call of a method.

    Attributes
    ----------
    seed : int
    method : str
    names : dict of str to str
        The ingredient of each part.
    chosen : dict of str to Ingredient
        The ingredients themselves.
    data : dict
        What the method is called with, by name.
    parameters : dict
    callbacks : list
    surroundings : callable
        Makes a context in which it happens.
    earlier : tuple of X, y and dict, or None
        What the estimator was fitted to before, and its parameters then.
    n : int
        Examples.
    """

    seed: int
    method: str
    names: dict[str, str]
    chosen: dict[str, Ingredient]
    data: dict[str, Any]
    parameters: dict[str, Any]
    callbacks: list
    surroundings: Callable[[], Any]
    earlier: tuple[Any, Any, dict[str, Any]] | None
    n: int

    def __str__(self) -> str:
        parts = ", ".join(
            f"{part}: {name}" + ("" if self.chosen[part].verdict == GOOD else f" ({self.chosen[part].verdict})")
            for part, name in self.names.items()
        )
        return f"case({self.seed}): {self.method}{' without a fit before' if self.is_unfitted else ''}; {parts}"

    @property
    def is_unfitted(self) -> bool:
        """Whether a fit is missing."""
        return self.method not in TRAINING and self.earlier is None

    @property
    def must_work(self) -> bool:
        """Whether all of it is good."""
        return not self.is_unfitted and all(each.verdict == GOOD for each in self.chosen.values())

    @property
    def must_fail(self) -> bool:
        """Whether something of it must be refused; the labels and weights of ``score`` are scikit-learn's business."""
        parts = (part for part, each in self.chosen.items() if each.verdict == BAD)
        return self.is_unfitted or not all(self._does_not_matter(part) for part in parts)

    def _does_not_matter(self, part: str) -> bool:
        """Whether a bad ingredient is none here: later labels may be of one class, and the device is that of before."""
        if part == "y" and self.method.endswith("partial_fit"):
            return self.names[part] == "one class"
        if part == "parameter" and self.method == "second partial_fit":
            return self.names[part].startswith("device=")
        return self.method == "score" and part != "X"


def case(seed: int) -> Case:
    """The case of this number; all of it is drawn by the number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has its doubts about some kinds of tensors
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _case(seed)


def _case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    method = str(rng.choice(list(METHODS), p=list(METHODS.values())))
    has_images = rng.random() < 0.12
    draw = _good_data(rng, has_images=has_images)
    tables = TABLE_OF | {"X": IMAGES if has_images else TABLES}
    used = [part for part in PARTS[method] if not (has_images and part in ("module", "augment"))]
    n_spoilt = min(int(rng.choice(list(N_SPOILT), p=list(N_SPOILT.values()))), len(used))
    spoilt = {str(part) for part in rng.choice(used, n_spoilt, replace=False)} if used else set()
    names = {part: _name(rng, tables[part], part in spoilt) for part in used}
    if method == "score" and names.get("sample_weight") == "one for all":  # which scikit-learn's metrics do not take
        names["sample_weight"] = "None"
    chosen = {part: tables[part][name] for part, name in names.items()}

    data: dict[str, Any] = {part: chosen[part].make(draw) for part in ("X", "y", "sample_weight") if part in used}
    classes = np.unique(_host(data["y"])) if "y" in used and chosen["y"].verdict == GOOD else np.unique(draw.y)
    draw = dataclasses.replace(draw, n_classes=len(classes))
    if "classes" in used:
        given = chosen["classes"].make(draw)
        data["classes"] = classes if given is None else given
    parameters = PLAIN | {"epochs": int(rng.integers(1, 3)), "optimizer": torch.optim.Adam}
    for part in ("module", "optimizer", "augment", "parameter"):
        if part in used:
            parameters |= chosen[part].make(draw)
    if "parameter" in used and chosen["parameter"].verdict == GOOD:  # for these labels and this method, too
        if isinstance(parameters.get("class_weight"), dict):
            parameters["class_weight"] = dict(zip(classes.tolist(), parameters["class_weight"].values()))
        if method.endswith("partial_fit") and isinstance(parameters["forget_rate"], str):
            parameters["forget_rate"] = 0.2
    callbacks = chosen["callbacks"].make(draw) if "callbacks" in used else []
    is_fitted = method in AFTER_A_FIT and (method in TRAINING or rng.random() < 0.95)
    earlier = _earlier(rng, method, chosen, draw) if is_fitted else None
    names["surroundings"] = _name(rng, SURROUNDINGS, False)
    chosen["surroundings"] = SURROUNDINGS[names["surroundings"]]
    surroundings = chosen["surroundings"].make(draw)
    return Case(seed, method, names, chosen, data, parameters, callbacks, surroundings, earlier, draw.n)


def _good_data(rng: np.random.Generator, *, has_images: bool) -> Draw:
    n, n_classes = int(rng.integers(20, 41)), int(rng.integers(2, 5))
    y = rng.permutation(np.arange(n) % n_classes)
    if has_images:
        X = (rng.integers(0, 100, (n, 1, 8, 8)) + 40 * y[:, None, None, None]).astype(np.uint8)
    else:
        X = (rng.normal(size=(n, ingredients.N_FEATURES)) + y[:, None]).astype(np.float32)
    return Draw(rng, X, y, n_classes)


def _name(rng: np.random.Generator, table: dict[str, Ingredient], spoilt: bool) -> str:
    names = [name for name, each in table.items() if (each.verdict == GOOD) != spoilt]
    if not spoilt and rng.random() < 0.5:
        return names[0]
    return names[int(rng.integers(len(names)))]


def _host(y: Any) -> np.ndarray:
    return y.to(torch.float64).numpy() if isinstance(y, Tensor) else np.asarray(y)


def _earlier(
    rng: np.random.Generator, method: str, chosen: dict[str, Ingredient], draw: Draw
) -> tuple[Any, Any, dict[str, Any]]:
    """What the estimator was fitted to before: X and y of the kinds that come now, where these are good."""
    parameters: dict[str, Any] = dict(PLAIN)
    if method != "refit" and rng.random() < 0.5:  # which has to take what is set now
        tables = (OPTIMIZERS, PARAMETERS) if draw.X.ndim == 4 else (OPTIMIZERS, PARAMETERS, MODULES)
        for table in tables:
            made = table[_name(rng, table, False)].make(draw)
            parameters |= {name: each for name, each in made.items() if not name.startswith(("optimizer__", "class"))}
    X: Any = draw.X.copy()
    if X.ndim == 4 and "X" in chosen and chosen["X"].verdict == GOOD:
        X = chosen["X"].make(draw)
    elif X.ndim == 2 and rng.random() < 0.4:
        X = pd.DataFrame(X, columns=ingredients.COLUMNS)
    is_good = "y" in chosen and chosen["y"].verdict == GOOD
    return X, chosen["y"].make(draw) if is_good else draw.y.copy(), parameters


# the judge


def run_cases(seeds: Iterable[int]) -> collections.Counter:
    """How many cases ended how: they worked, or with which kind of error.

    Raises
    ------
    Violation
        Of the first case that broke a promise.
    """
    return collections.Counter(check(case(seed)) for seed in seeds)


def check(case: Case, estimator_type: type[CoTeachingClassifier] = CoTeachingClassifier) -> str:
    """What came of a case: "works", "the user's own", or the name of the type of the error.

    Parameters
    ----------
    case : Case
        Used up by this: an iterator in it has come to its end.
    estimator_type : type, default=CoTeachingClassifier
        What is judged.

    Raises
    ------
    Violation
        If a promise was broken.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        _import_all()
        try:
            with case.surroundings():
                return _check(case, estimator_type)
        except Violation as violation:
            raise Violation(f"{case}\n{violation}") from violation.__cause__


@functools.cache
def _import_all() -> None:
    """A first fit has torch import much that it does not need before, and some of it adds to the warnings' filters."""
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    CoTeachingClassifier(epochs=1, random_state=0).fit(X, y).get_label_issues()


def _check(case: Case, estimator_type: type[CoTeachingClassifier]) -> str:
    fitted = learnt = None
    if case.earlier is not None:
        X, y, parameters = case.earlier
        fitted, error = _attempt(lambda: estimator_type(**parameters).fit(X, y))
        if error is not None:
            raise Violation("All of it is good, but the fit before fails.") from error
        learnt = _learnt(fitted, case.earlier)
    given = _looks([*case.data.values(), *(case.earlier or ()), case.parameters])

    before: dict[str, Any] = {} if fitted is None else dict(vars(fitted))
    set_or_make = estimator_type if fitted is None else fitted.set_params
    estimator, error = _attempt(lambda: set_or_make(**case.parameters))
    if error is not None and fitted is not None and _changed(before, dict(vars(fitted))):
        raise Violation(f"set_params has failed and changed {_changed(before, dict(vars(fitted)))}.") from error
    if error is None:
        _, error = _attempt(lambda: estimator.set_callbacks(*case.callbacks) if case.callbacks else None)
    is_undone = True
    if error is None:
        result, error = _judged_call(case, estimator)
        is_undone = error is not None and not _is_of_teardown(error) or case.method not in TRAINING
        if error is None:
            _check_what_works(case, estimator, result)

    if error is not None and case.must_work:
        raise Violation("All of it is good, but it fails.") from error
    kind = "works" if error is None else _kind(case, error)
    if error is None and case.must_fail:
        raise Violation("It must be refused, but it works.")
    if _looks([*case.data.values(), *(case.earlier or ()), case.parameters]) != given:
        raise Violation("What was handed over was changed.") from error
    if fitted is not None and case.earlier is not None and is_undone and _learnt(fitted, case.earlier) != learnt:
        raise Violation("The fit of before is not what it was.") from error
    return kind


def _judged_call(case: Case, estimator: CoTeachingClassifier) -> tuple[Any, Exception | None]:
    """What the method returns, or raises; where it fails or trains nothing, the attributes must be as before."""
    before, parameters = dict(vars(estimator)), estimator.get_params(deep=False)
    result, error = _attempt(lambda: _METHODS[case.method](estimator)(**case.data))
    changed = _changed(parameters, estimator.get_params(deep=False))
    if changed:
        raise Violation(f"get_params() is not what it was: {changed}.") from error
    changed = _changed(before, dict(vars(estimator)))
    if changed and (case.method not in TRAINING or error is not None and not _is_of_teardown(error)):
        raise Violation(f"Attributes are not what they were, though nothing was trained: {changed}.") from error
    return result, error


def _is_of_teardown(error: Exception) -> bool:
    """Whether it was raised by a callback when all was done."""
    return any(each.name == "teardown" for each in traceback.extract_tb(error.__traceback__))


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call returns, or what it raises; the process must be as before."""
    before = _state_of_the_process()
    result, raised = None, None
    try:
        result = call()
    except Exception as error:
        raised = error
    after = _state_of_the_process()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise Violation(f"The process is not as it was: {', '.join(changed)}.") from raised
    return result, raised


def _state_of_the_process() -> dict[str, Any]:
    return {
        "Python's random numbers": random.getstate(),
        "NumPy's random numbers": _look(np.random.get_state()),
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "torch's default dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "threads": torch.get_num_threads(),
        "warnings": list(warnings.filters),
        "NumPy's errors": np.geterr(),
        "scikit-learn's configuration": sklearn.get_config(),
    }


def _kind(case: Case, error: Exception) -> str:
    """The kind of an error that may be raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    file = os.path.realpath(last.filename)
    if isinstance(error, OwnError):
        if error.__cause__ is not None or error.args != ("the user's own error",):
            raise Violation("The user's own error was changed.") from error
        return USERS_OWN
    if file == _USERS:
        return USERS_OWN
    if isinstance(error, NotFittedError) and case.is_unfitted:
        return "NotFittedError"
    if isinstance(error, AttributeError) and "partial_fit" in case.method and "forget_rate" in str(error):
        return "AttributeError"
    if not isinstance(error, (ValueError, TypeError)):
        raise Violation(f"A {type(error).__name__} is nothing that users expect: {error}") from error
    inmost = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(_PACKAGE)][-1]
    if inmost.name == "score":
        return "scikit-learn's"  # its metric has the word
    if not file.startswith((_PACKAGE, _SKLEARN)) or not (last.line or "").startswith("raise"):
        raise Violation(f"Raw, from {last.filename}:{last.lineno}, {last.line}: {error}") from error
    words = [each.words for each in case.chosen.values() if each.verdict != GOOD]
    if not any(re.search(pattern, str(error)) for pattern in words):
        raise Violation(f"The message says nothing of what is wrong: {error}") from error
    return type(error).__name__ if type(error).__module__ == "builtins" else type(error).__mro__[1].__name__


def _check_what_works(case: Case, estimator: CoTeachingClassifier, result: Any) -> None:
    """What was trained must predict, or say why not; what was predicted must be probabilities or classes."""
    if case.method in TRAINING:
        if result is not estimator:
            raise Violation("It does not return the estimator.")
        for method in ("predict_proba", "predict"):
            result, error = _attempt(lambda: getattr(estimator, method)(case.data["X"]))
            if error is None:
                _check_predictions(case, estimator, method, result)
            elif case.must_work:
                raise Violation(f"{method} fails after it.") from error
            else:
                _kind(case, error)
        if "partial" not in case.method:
            quality = estimator.get_label_issues()["label_quality"].to_numpy()
            if not ((quality >= 0) & (quality <= 1)).all():
                raise Violation("Label quality is not within [0, 1].")
    elif case.method.startswith("predict"):
        _check_predictions(case, estimator, case.method, result)


def _check_predictions(case: Case, estimator: CoTeachingClassifier, method: str, result: np.ndarray) -> None:
    classes = np.asarray(estimator.classes_)
    if case.chosen["X"].verdict == GOOD and len(result) != case.n:
        raise Violation(f"{method} returns {len(result)} rows for {case.n} examples.")
    if method == "predict":
        if result.dtype != classes.dtype or not np.isin(result, classes).all():
            raise Violation("What is predicted is no class.")
    else:
        probabilities = np.exp(result) if "log" in method else result
        if probabilities.shape[1:] != classes.shape or not np.allclose(probabilities.sum(1), 1):
            raise Violation("What is predicted are no probabilities.")


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that have come, have gone, or stand for another object."""
    nothing = object()
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name, nothing) is not after.get(name, nothing)
    )


def _learnt(estimator: CoTeachingClassifier, earlier: tuple[Any, Any, dict[str, Any]]) -> Any:
    """All that a fit has found."""
    plain = copy.copy(estimator)
    plain.__dict__["precision"] = earlier[2]["precision"]
    return _looks([plain.predict_proba(earlier[0]), plain.get_label_issues(), plain.history_, plain.classes_])


def _looks(values: Iterable[Any]) -> list:
    return [_look(each) for each in values]


def _look(value: Any) -> Any:
    """What can be compared with how a value looks later; only its identity where that is all there is."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return kind, value.dtype, value.shape, value.requires_grad, value.is_leaf, _numbers_of(value)
    if isinstance(value, np.ndarray):
        numbers = _looks(value.ravel().tolist()) if value.dtype.kind in "OT" else value.tobytes()
        masked = np.ma.getmaskarray(value).tobytes() if isinstance(value, np.ma.MaskedArray) else None
        return kind, value.dtype.str, value.shape, value.flags.writeable, numbers, masked
    if isinstance(value, (pd.DataFrame, pd.Series)):
        columns = value.columns if isinstance(value, pd.DataFrame) else [value.name]
        return kind, repr(columns), repr(value.dtypes), repr(value.index), _look(value.to_numpy(dtype=object))
    if sparse.issparse(value):
        return kind, value.dtype.str, value.shape, _look(value.toarray())
    if isinstance(value, nn.Module):
        return kind, value.training, _looks(value.state_dict().values()), _looks(p.grad for p in value.parameters())
    if isinstance(value, np.random.RandomState):
        return kind
    if isinstance(value, (list, tuple, collections.deque)):
        return kind, _looks(value)
    if isinstance(value, dict):
        return kind, _looks(value.keys()), _looks(value.values())
    if isinstance(value, (Items, ArrayLike)):
        return kind, _look(vars(value))
    return kind, repr(value)


def _numbers_of(tensor: Tensor) -> Any:
    if tensor.is_meta or tensor.is_nested:
        return None
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return dense.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


_METHODS: dict[str, Callable[[Any], Callable]] = {
    method: operator.attrgetter({"refit": "fit", "second partial_fit": "partial_fit"}.get(method, method))
    for method in METHODS
}
