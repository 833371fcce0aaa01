"""What counts as logits is told from what does not."""

from types import SimpleNamespace

import pytest
import torch

from skcoteach._training.engines.logits import check_logits

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_logits_of_the_right_shape_pass(dtype):
    check_logits(torch.zeros(5, 3, dtype=dtype), "module", 5, 3)
    check_logits(torch.zeros(1, 2, dtype=dtype), "module", 1, 2)
    check_logits(torch.full((5, 3), torch.nan, dtype=dtype), "module", 5, 3)  # what is in them is told elsewhere


def test_the_logits_are_given_back_also_those_that_an_object_holds():
    logits = torch.zeros(5, 3)
    assert check_logits(logits, "module", 5, 3) is logits
    assert check_logits(SimpleNamespace(logits=logits, loss=torch.zeros(())), "module", 5, 3) is logits
    with pytest.raises(ValueError, match=r"got shape \(3, 5\)"):
        check_logits(SimpleNamespace(logits=logits.T), "module", 5, 3)


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ([[0.0] * 3] * 5, TypeError, "made by mine must return a tensor of raw logits; it returned a list"),
        (SimpleNamespace(logits=[0.0]), TypeError, "it returned a SimpleNamespace. An object with such a tensor as"),
        (torch.zeros(5, 3, dtype=torch.int32), TypeError, "made by mine must return floating.*; got torch.int32"),
        (torch.zeros(5, 3, dtype=torch.complex64), TypeError, "must return floating.*; got torch.complex64"),
        (torch.zeros(3, 5), ValueError, r"made by mine .*here \(5, 3\) .*two classes\); got shape \(3, 5\)"),
        (torch.zeros(()), ValueError, r"got shape \(\)"),
    ],
    ids=["list", "object", "integers", "complex", "transposed", "number"],
)
def test_what_is_no_logits_is_refused_with_what_is_expected_and_what_was_returned(outputs, error, message):
    with pytest.raises(error, match=message):
        check_logits(outputs, "mine", 5, 3)
