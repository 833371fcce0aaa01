"""Arrays of other libraries come in, and outputs go back to the library and device of the input."""

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from torch.utils.data import TensorDataset

from skcoteach._arrays import is_foreign, to_host, to_namespace_of, to_tensor

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(6, 3))


def test_foreign_are_arrays_of_other_libraries_while_dispatch_is_on():
    foreign = array_api_strict.asarray(X)
    assert not is_foreign(foreign)
    with config_context(array_api_dispatch=True):
        assert is_foreign(foreign)
        for own in (X, X[0, 0], torch.as_tensor(X), sparse.csr_array(X), pd.DataFrame(X), X.tolist(), None):
            assert not is_foreign(own)


def test_arrays_of_other_libraries_become_tensors():
    with config_context(array_api_dispatch=True):
        tensor = to_tensor(array_api_strict.asarray(X))
    assert isinstance(tensor, torch.Tensor)
    assert (tensor.device.type, tensor.dtype, tensor.tolist()) == ("cpu", torch.float64, X.tolist())


def test_tensors_come_to_the_host_and_everything_else_stays_what_it_is():
    assert to_host(torch.arange(3).float().requires_grad_()).tolist() == [0, 1, 2]
    for given in (X, [1, 2], None, pd.Series([1])):
        assert to_host(given) is given


def test_outputs_are_numpy_unless_dispatch_is_on():
    for like in (X, torch.as_tensor(X), pd.DataFrame(X), TensorDataset(torch.as_tensor(X))):
        assert isinstance(to_namespace_of(torch.ones(2), like), np.ndarray)
    with config_context(array_api_dispatch=True):
        assert isinstance(to_namespace_of(torch.ones(2), X), np.ndarray)
        assert isinstance(to_namespace_of(torch.ones(2), TensorDataset(torch.as_tensor(X))), np.ndarray)
        for values in (torch.ones(2), np.ones(2)):
            assert isinstance(to_namespace_of(values, torch.as_tensor(X)), torch.Tensor)
            back = to_namespace_of(values, array_api_strict.asarray(X))
            assert back.__array_namespace__() is array_api_strict
            assert to_host(back).tolist() == [1, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_outputs_are_where_the_input_is():
    with config_context(array_api_dispatch=True):
        for values in (torch.ones(2), torch.ones(2, device="cuda"), np.ones(2)):
            assert to_namespace_of(values, torch.zeros(1, device="cuda")).device.type == "cuda"
            assert to_namespace_of(values, torch.zeros(1)).device.type == "cpu"
