"""Augmentation changes every image by itself, within what it says, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach.augmentation import RandomFlip, RandomShift

pytestmark = pytest.mark.filterwarnings("error")


def shifted_by_hand(image, dy, dx):
    """The image moved down by dy and right by dx, zeros where nothing was."""
    moved = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - dy < height and 0 <= column - dx < width:
                moved[..., row, column] = image[..., row - dy, column - dx]
    return moved


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.sampled_from([(5, 4), (1, 5, 4), (3, 4, 6)]), st.integers(0, 2**31))
def test_every_image_is_shifted_whole_by_at_most_the_pixels_stated(pixels, shape, seed):
    torch.manual_seed(seed)
    x = torch.rand(7, *shape) + 0.1
    before = x.clone()
    for image, result in zip(x, RandomShift(pixels)(x), strict=True):
        steps = range(-pixels, pixels + 1)
        assert sum(torch.equal(shifted_by_hand(image, dy, dx), result) for dy in steps for dx in steps) == 1
    assert torch.equal(x, before)


def test_shifts_differ_from_image_to_image_and_take_all_values():
    torch.manual_seed(0)
    x = torch.zeros(900, 1, 5, 5)
    x[..., 2, 2] = 1
    places = RandomShift(1)(x).flatten(1).argmax(1).bincount(minlength=25).view(5, 5)
    assert places.sum() == 900
    assert (places[1:4, 1:4] > 60).all()


def test_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    x = torch.rand(1000, 2, 3, 4)
    y = RandomFlip()(x)
    same, mirrored = ((y == each).flatten(1).all(1) for each in (x, x.flip(-1)))
    assert (same ^ mirrored).all()
    assert 430 < mirrored.sum() < 570


@pytest.mark.parametrize("augmentation", [RandomShift(1), RandomFlip()], ids=["shift", "flip"])
def test_tables_are_refused(augmentation):
    with pytest.raises(ValueError, match=r"images of shape .* got shape \(3, 4\)"):
        augmentation(torch.zeros(3, 4))


@pytest.mark.parametrize("pixels", [-1, 1.5, "2", None], ids=repr)
def test_pixels_that_are_no_number_of_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match=f"pixels must be an integer, 0 or more, got {pixels!r}"):
        RandomShift(pixels)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_dtype_is_kept(dtype):
    x = torch.ones(2, 1, 4, 4, dtype=dtype)
    assert nn.Sequential(RandomFlip(), RandomShift(1))(x).dtype == dtype


def test_a_classifier_is_cloned_and_trained_with_it():
    rng = np.random.default_rng(0)
    X, y = rng.random((80, 1, 8, 8), dtype=np.float32), np.arange(80) % 2
    X[y == 1, :, :, :4] += 1
    parameters = {"forget_rate": 0.1, "epochs": 4, "batch_size": 16, "device": "cpu", "random_state": 0}
    augmented = clone(CoTeachingClassifier(augment=nn.Sequential(RandomFlip(), RandomShift(1)), **parameters))
    assert "RandomShift(1)" in repr(augmented.augment)
    first, again = (clone(augmented).fit(X, y).history_[-1]["loss"] for _ in range(2))
    assert first == again != CoTeachingClassifier(**parameters).fit(X, y).history_[-1]["loss"]
