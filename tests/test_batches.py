"""A batch is a tensor or a dict of tensors; what is asked of one can be asked of the other."""

import torch

from skcoteach._batches import call, described, device_of, each_tensor, length_of, tensors_of

TENSOR = torch.zeros(3, 2)
DICT = {"b": torch.zeros(3, dtype=torch.int64), "a": TENSOR}


def test_a_tensor_is_asked_itself():
    assert tensors_of(TENSOR)[0] is TENSOR
    assert (length_of(TENSOR), device_of(TENSOR).type) == (3, "cpu")
    assert each_tensor(lambda each: each.shape, TENSOR) == (3, 2)
    assert described(TENSOR) == "shape (3, 2) and dtype torch.float32"
    assert call(lambda x: x, TENSOR) is TENSOR


def test_of_a_dict_each_tensor_is_asked_in_its_order():
    assert list(map(id, tensors_of(DICT))) == list(map(id, DICT.values()))
    assert (length_of(DICT), device_of(DICT).type) == (3, "cpu")
    assert list(each_tensor(lambda each: each.shape, DICT).items()) == [("b", (3,)), ("a", (3, 2))]
    assert described(DICT) == "the entries b (3,) torch.int64, a (3, 2) torch.float32"
    assert call(lambda a, b: a if b is DICT["b"] else b, DICT) is TENSOR
