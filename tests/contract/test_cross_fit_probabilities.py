"""Out-of-sample probabilities of the cross-fit, kept where they are asked for."""

import pickle

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from helpers import auto, fast
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skcoteach import noise

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def kept(noisy):
    return auto(epochs=10, cross_fit_probabilities=True).fit(*noisy[:2])


def test_there_is_a_distribution_for_every_example(kept, noisy):
    probabilities = kept.cross_fit_probabilities_
    assert (probabilities.shape, probabilities.dtype) == ((600, 3), np.float64)
    assert_allclose(probabilities.sum(1), 1, rtol=1e-12)


def test_they_find_the_wrong_labels_and_the_noise_rate(kept, noisy):
    X, given, true = noisy
    quality = get_label_quality_scores(given, kept.cross_fit_probabilities_)
    assert roc_auc_score(given == true, quality) > 0.9
    assert noise.estimate_noise(given, kept.cross_fit_probabilities_).noise_rate == pytest.approx(0.2, abs=0.07)


def test_they_are_out_of_sample():
    """Labels drawn by lot cannot be predicted by who has not seen them."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 30)).astype(np.float32), rng.integers(0, 2, 400)
    estimator = auto(epochs=60, cross_fit_probabilities=True).fit(X, y)
    assert abs((estimator.cross_fit_probabilities_.argmax(1) == y).mean() - 0.5) < 0.1
    assert np.mean(estimator.history_[-1]["accuracy"]) > 0.6


def test_all_else_is_the_same_and_they_are_there_only_if_asked_for(kept, noisy):
    plain = auto(epochs=10).fit(*noisy[:2])
    assert not hasattr(plain, "cross_fit_probabilities_")
    assert_array_equal(plain.label_quality_, kept.label_quality_)


def test_a_checkpoint_keeps_them(kept, noisy, tmp_path):
    for _ in range(2):
        again = auto(epochs=10, cross_fit_probabilities=True, checkpoint=tmp_path).fit(*noisy[:2])
        assert_array_equal(again.cross_fit_probabilities_, kept.cross_fit_probabilities_)
    assert len(list(tmp_path.iterdir())) == 1


def test_they_go_with_all_that_is_known_of_single_examples(kept):
    published = pickle.loads(pickle.dumps(kept)).forget_training_data()
    assert not hasattr(published, "cross_fit_probabilities_")
    assert hasattr(kept, "cross_fit_probabilities_")


def test_with_a_forget_rate_given_there_are_none(noisy):
    with pytest.raises(ValueError, match='cross_fit_probabilities=True needs forget_rate="auto"'):
        fast(cross_fit_probabilities=True).fit(*noisy[:2])
    with pytest.raises(ValueError, match='cross_fit_probabilities=True needs forget_rate="auto"'):
        fast(cross_fit_probabilities=True).partial_fit(*noisy[:2], classes=[0, 1, 2])
