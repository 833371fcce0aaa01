"""What callables take is read off their signatures, and names that they do not take are refused."""

import functools

import pytest
from torch import nn

from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.signatures import accepted_by, check_takes, listed

pytestmark = pytest.mark.filterwarnings("error")


def takes_two(first, *, second=2):
    """A callable with a required and an optional argument."""


class Made:
    def __init__(self, width, depth=3):
        """As a network is made."""


class Called:
    def __call__(self, width, depth=3):
        """As a factory is called."""


@pytest.mark.parametrize(
    ("made_by", "accepted"),
    [
        (takes_two, {"first": False, "second": True}),
        (Made, {"width": False, "depth": True}),
        (Called(), {"width": False, "depth": True}),
        (functools.partial(takes_two, first=1), {"first": True, "second": True}),
        (lambda first, /, *more, last, **others: None, {"last": False}),
        (lambda: None, {}),
    ],
    ids=["function", "class", "object", "partial", "all kinds", "nothing"],
)
def test_what_may_be_given_by_name_is_accepted(made_by, accepted):
    assert accepted_by(made_by) == accepted


@pytest.mark.parametrize("built_in", [getattr, dict], ids=["getattr", "dict"])
def test_of_callables_without_a_signature_nothing_is_known(built_in):
    assert accepted_by(built_in) == {}


def test_names_that_are_not_taken_are_refused_as_the_user_wrote_them():
    given, prefixes = {"first": 0, "a": 1, "b": 2}, {"first": "module", "a": "module", "b": "module2"}
    with pytest.raises(InvalidParameterError) as raised:
        check_takes(takes_two, given, prefixes, "takes_two")
    assert str(raised.value) == (
        "takes_two does not take a, b (given as module__a, module2__b). It takes: first, second."
    )
    with pytest.raises(InvalidParameterError, match=r"none does not take a .*It takes: nothing\.$"):
        check_takes(lambda: None, {"a": 1}, prefixes, "none")


def test_names_that_are_taken_pass():
    check_takes(takes_two, {"first": 0, "second": 1}, {}, "takes_two")
    check_takes(nn.Linear, {"in_features": 4, "bias": False}, {}, "Linear")


def test_names_are_not_checked_where_a_callable_takes_any_or_has_no_signature():
    check_takes(lambda **names: None, {"a": 1}, {"a": "optimizer"}, "any")
    check_takes(getattr, {"a": 1}, {"a": "optimizer"}, "getattr")  # a built-in
    check_takes(dict, {"a": 1}, {"a": "optimizer"}, "dict")


def test_names_are_listed_with_their_prefixes():
    assert listed(["a", "b"], {"a": "module", "b": "module2", "c": "optimizer"}) == "module__a, module2__b"
