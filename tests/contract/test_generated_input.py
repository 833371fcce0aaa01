"""A thousand cases of input as nobody would think of it: each works or is told, and costs nothing that was there."""

import random
import re
import warnings

import numpy as np
import pytest
import torch

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.generated import Violation, case, check, run_cases

BLOCK, BLOCKS = 100, 10


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_case_works_or_is_told_in_the_users_words_and_changes_nothing(block):
    kinds = run_cases(range(block * BLOCK, (block + 1) * BLOCK))
    assert kinds.total() == BLOCK
    assert {"works", "ValueError", "TypeError"} <= kinds.keys()


def test_a_case_is_made_again_by_its_number():
    for seed in range(40):
        assert str(case(seed)) == str(case(seed))
        assert check(case(seed)) == check(case(seed))


# the judge can fail


class Broken(CoTeachingClassifier):
    """Breaks promises in ``fit``, all of which is right otherwise."""

    def fit(self, X, y=None, sample_weight=None):
        self.spoil_before(X)
        try:
            super().fit(X, y, sample_weight)
        except Exception as error:
            self.spoil_after(error)
            raise
        return self

    def spoil_before(self, X):
        pass

    def spoil_after(self, error):
        pass


class ChangesX(Broken):
    def spoil_before(self, X):
        if isinstance(X, np.ndarray) and X.dtype == np.float32 and X.flags.writeable:
            X[...] += 1


class ChangesParameters(Broken):
    def spoil_before(self, X):
        self.batch_size = 17


class Draws(Broken):
    def spoil_before(self, X):
        random.random()


class DrawsFromNumpy(Broken):
    def spoil_before(self, X):
        np.random.random()


class DrawsFromTorch(Broken):
    def spoil_before(self, X):
        torch.rand(1)


class SetsDtype(Broken):
    def spoil_before(self, X):
        torch.set_default_dtype(torch.float64)


class SetsWarnings(Broken):
    def spoil_before(self, X):
        warnings.simplefilter("always")


class ForgetsTheFitBefore(Broken):
    def spoil_after(self, error):
        vars(self).pop("modules_", None)


class SpoilsTheFitBefore(Broken):
    def spoil_after(self, error):
        for parameter in self.modules_[0].parameters() if hasattr(self, "modules_") else ():
            parameter.data.add_(1)


class RaisesRaw(Broken):
    def spoil_after(self, error):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class RaisesAsTorch(Broken):
    def spoil_after(self, error):
        torch.nn.functional.linear(torch.ones(1, "a"))


class SaysNothing(Broken):
    def spoil_after(self, error):
        if isinstance(error, ValueError):
            error.args = ("something is wrong",)


class TakesAnything(Broken):
    def fit(self, X, y=None, sample_weight=None):
        try:
            return super().fit(X, y, sample_weight)
        except ValueError:
            return self


class RefusesWhatIsGood(Broken):
    def spoil_before(self, X):
        raise ValueError("X is not to be liked")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (ChangesX, "What was handed over was changed"),
        (ChangesParameters, "get_params.. is not what it was"),
        (Draws, "Python's random numbers"),
        (DrawsFromNumpy, "NumPy's random numbers"),
        (DrawsFromTorch, "torch's random numbers"),
        (SetsDtype, "torch's default dtype"),
        (SetsWarnings, "warnings"),
        (ForgetsTheFitBefore, "Attributes are not what they were"),
        (SpoilsTheFitBefore, "The fit of before is not what it was"),
        (RaisesRaw, "A RuntimeError is nothing that users expect"),
        (RaisesAsTorch, "Raw, from .*test_generated_input"),
        (SaysNothing, "The message says nothing of what is wrong"),
        (TakesAnything, "It must be refused, but it works"),
        (RefusesWhatIsGood, "All of it is good, but"),
    ],
)
def test_a_broken_promise_is_found_and_the_case_is_named(broken, words):
    found = []
    seeds = (seed for seed in range(300) if case(seed).method in ("fit", "refit"))
    while not any(re.search(words, each) for each in found):
        seed = next(seeds)
        try:
            check(case(seed), broken)
        except Violation as violation:
            found.append(str(violation))
            assert f"case({seed})" in found[-1]
        finally:
            torch.set_default_dtype(torch.float32)
