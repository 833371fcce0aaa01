"""A fitted classifier as one module of torch: the same probabilities, in torch.export and ONNX, too."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import Net, Words, auto, fast, images
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from torch import nn

from skcoteach import CoTeachingClassifier

#: What predict_proba and the module may differ by: it sums in single precision.
CLOSE = 1e-5


class TwoInputs(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.words, self.last = nn.Embedding(10, 4), nn.Linear(24, n_classes)

    def forward(self, ids, scale):
        return SimpleNamespace(logits=self.last(self.words(ids).flatten(1)) * scale)


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


def of_tables(noisy):
    return auto(epochs=6).fit(*noisy[:2]), noisy[0]


def of_own_forward(noisy):
    return fast(module=Net).fit(*noisy[:2]), noisy[0]


def of_averages_in_double_precision(noisy):
    X = noisy[0].astype(np.float64)
    return fast(precision="float64", average_decay=0.9).fit(X, noisy[1]), X


def of_images(noisy):
    X, y = images()
    return fast(forget_rate=0, epochs=20, lr=0.01).fit(X, y), X


def of_words(noisy):
    X = np.random.default_rng(0).integers(0, 10, (120, 6))
    return fast(module=Words).fit(X, X[:, 0] > 4), X


FITTED = pytest.mark.parametrize(
    "fitted", [of_tables, of_own_forward, of_averages_in_double_precision, of_images, of_words]
)


@FITTED
def test_it_has_the_probabilities_of_predict_proba(fitted, noisy):
    estimator, X = fitted(noisy)
    with torch.no_grad():
        probabilities = estimator.as_module()(torch.from_numpy(X))
    assert_allclose(probabilities, estimator.predict_proba(X), atol=CLOSE)
    assert len({*estimator.predict(X)}) > 1


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-5), (torch.float16, 0.01), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("fitted", [of_tables, of_images, of_words])
def test_it_can_be_brought_to_another_precision(fitted, dtype, close, noisy):
    estimator, X = fitted(noisy)
    module = estimator.as_module().to(dtype)
    with torch.no_grad():
        probabilities = module(torch.from_numpy(X))
    assert probabilities.dtype == dtype
    some = torch.from_numpy(X[:2])
    exported = torch.export.export(module, (some,)).module()
    with torch.no_grad():
        assert_allclose(exported(some).double(), probabilities[:2].double(), atol=close)
    assert_allclose(probabilities.double(), estimator.predict_proba(X), atol=close)


def test_where_x_was_a_dict_it_takes_a_dict(tmp_path):
    X, y = {"ids": np.random.default_rng(0).integers(0, 10, (120, 6)), "scale": np.ones((120, 1))}, np.arange(120) % 2
    X["ids"][:, 0] = 5 * y
    estimator = fast(module=TwoInputs, epochs=20).fit(X, y)
    tensors = {key: torch.from_numpy(each) for key, each in X.items()}
    with torch.no_grad():
        assert_allclose(estimator.as_module()(tensors), estimator.predict_proba(X), atol=CLOSE)
    any_size = torch.export.Dim("n")
    sizes = ({key: {0: any_size} for key in X},)
    some = {key: each[:2] for key, each in tensors.items()}
    program = torch.export.export(estimator.as_module(), (some,), dynamic_shapes=sizes)
    torch.onnx.export(program, f=tmp_path / "model.onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for n in (1, 50):
        given = {each.name: X[each.name.removeprefix("x_")][:n] for each in session.get_inputs()}
        expected = estimator.predict_proba({key: each[:n] for key, each in X.items()})
        assert_allclose(session.run(None, given)[0], expected, atol=CLOSE)
    assert len({*estimator.predict(X)}) == 2


def test_networks_that_write_into_their_inputs_get_copies(noisy):
    estimator = fast(module=InPlace).fit(*noisy[:2])
    X = torch.from_numpy(noisy[0])
    before = X.clone()
    with torch.no_grad():
        assert_allclose(estimator.as_module()(X), estimator.predict_proba(noisy[0]), atol=CLOSE)
    assert torch.equal(X, before)


def test_values_far_out_are_those_of_predict_proba_in_an_export_too(noisy):
    estimator, X = of_tables(noisy)
    X = np.tile(X[:8], (4, 1)) * np.float32(10.0) ** np.arange(-12, 36, 1.5, dtype=np.float32)[:, None]
    any_size = ({0: torch.export.Dim("n")},)
    program = torch.export.export(estimator.as_module(), (torch.from_numpy(X[:2]),), dynamic_shapes=any_size)
    assert_allclose(program.module()(torch.from_numpy(X)).detach(), estimator.predict_proba(X), atol=CLOSE)


@FITTED
def test_exported_to_onnx_it_has_them_for_any_number_of_examples(fitted, noisy, tmp_path):
    estimator, X = fitted(noisy)
    any_size = ({0: torch.export.Dim("n")},)
    program = torch.export.export(estimator.as_module(), (torch.from_numpy(X[:2]),), dynamic_shapes=any_size)
    torch.onnx.export(program, f=tmp_path / "model.onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (name,) = (each.name for each in session.get_inputs())
    for n in (1, 3, 50):
        (probabilities,) = session.run(None, {name: X[:n]})
        assert_allclose(probabilities, estimator.predict_proba(X[:n]), atol=CLOSE)
        assert_allclose(program.module()(torch.from_numpy(X[:n])).detach(), probabilities, atol=CLOSE)


def test_the_temperature_is_in_it(noisy):
    estimator, X = of_tables(noisy)
    before = estimator.as_module()
    estimator.temperature_ = 100.0
    with torch.no_grad():
        tempered = estimator.as_module()(torch.from_numpy(X))
        assert before(torch.from_numpy(X)).max() > 0.5 > tempered.max()
    assert_allclose(tempered, estimator.predict_proba(X), atol=CLOSE)


def test_it_is_a_copy(noisy):
    estimator, X = of_own_forward(noisy)
    before = estimator.predict_proba(X)
    module = estimator.as_module()
    assert not module.training
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_allclose(estimator.predict_proba(X), before)


def test_it_is_there_after_a_fit():
    with pytest.raises(NotFittedError):
        CoTeachingClassifier().as_module()


@pytest.mark.parametrize("given", [[[0.0]], np.zeros((1, 6)), {"x": torch.zeros(1, 6)}])
def test_what_it_does_not_take_is_told(given, noisy):
    with pytest.raises(TypeError, match=f"The module takes a tensor; got {type(given).__name__}"):
        of_tables(noisy)[0].as_module()(given)


def test_so_it_is_where_x_was_a_dict():
    X = np.random.default_rng(0).integers(0, 10, (120, 6))
    scale = np.ones((120, 1), dtype=np.float32)
    module = fast(module=TwoInputs).fit({"ids": X, "scale": scale}, X[:, 0] > 4).as_module()
    with pytest.raises(TypeError, match="The module takes a dict with ids, scale; got Tensor"):
        module(torch.from_numpy(X))


def test_its_probabilities_ask_for_no_gradients_but_those_of_inputs(noisy):
    estimator, X = of_tables(noisy)
    module = estimator.as_module()
    inputs = torch.from_numpy(X)
    assert_allclose(module(inputs).numpy(), estimator.predict_proba(X), atol=CLOSE)
    module(inputs.requires_grad_())[:, 0].sum().backward()
    assert inputs.grad.abs().sum() > 0
    assert all(each.requires_grad for network in estimator.modules_ for each in network.parameters())
