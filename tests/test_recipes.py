"""Recipes are complete settings that train, and what each part of them is can be left out."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skcoteach import CoTeachingClassifier, recipes
from skcoteach.benchmarks import recipes as earlier
from skcoteach.networks import CifarCNN

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("dataset", recipes.DATASETS)
def test_the_fast_recipe_trains_and_can_be_cloned(dataset):
    side, channels = {"digits": (8, 1), "mnist": (28, 1), "cifar10": (32, 3)}[dataset]
    X = np.random.default_rng(0).random((20, channels, side, side), dtype=np.float32)
    made = recipes.fast(dataset, forget_rate=0.2, epochs=1, random_state=0, device="cpu")
    assert isinstance(made, CoTeachingClassifier) and not hasattr(made, "classes_")
    assert clone(made).fit(X, np.arange(20) % 10).predict_proba(X).shape == (20, 10)


def test_the_recipe_of_the_paper_has_its_network_schedule_and_rule():
    made = recipes.paper("mnist", forget_rate=0.45)
    assert (made.module, made.epochs, made.batch_size, made.num_gradual, made.epoch_decay_start, made.lr) == (
        CifarCNN, 200, 128, 10, 80, 1e-3,
    )  # fmt: skip
    assert (made.class_floor, made.augment, made.average_decay, made.exponent) == (0.0, None, None, 1.0)
    X = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)
    made.set_params(epochs=1, num_gradual=1, device="cpu").fit(X, np.arange(20) % 10)


@pytest.mark.parametrize("epochs, start", [(10, 4), (200, 80), (250, 80)])
def test_the_learning_rate_of_the_paper_falls_from_epoch_80(epochs, start):
    assert recipes.paper("mnist", epochs=epochs).epoch_decay_start == start


def test_the_papers_adam_has_little_momentum_once_the_learning_rate_falls():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = recipes.PaperAdam([parameter], lr=0.1)
    betas = []
    for rate in (0.1, 0.1, 0.05):
        parameter.grad = torch.ones(1)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        betas.append(optimizer.param_groups[0]["betas"])
    assert betas == [(0.9, 0.999), (0.9, 0.999), (0.1, 0.999)]


@pytest.mark.parametrize("recipe, dataset", [(recipes.fast, "iris"), (recipes.paper, "digits")], ids=["fast", "paper"])
def test_what_has_no_recipe_is_told(recipe, dataset):
    with pytest.raises(ValueError, match=f"no such recipe for '{dataset}', only for .*mnist, cifar10"):
        recipe(dataset)


def test_a_part_that_no_recipe_has_is_told():
    with pytest.raises(ValueError, match="There is no part 'luck', only forgetting, augment"):
        recipes.without(recipes.fast("mnist"), "luck")


HAVE = {
    (recipes.fast, "digits"): {"forgetting", "augment", "average", "slow-warm-up", "weight-decay", "floor", "width"},
    (recipes.fast, "mnist"): {"forgetting", "augment", "average", "short-warm-up", "decay", "floor", "width"},
    (recipes.fast, "cifar10"): {"forgetting", "augment", "average", "decay", "floor"},
    (recipes.paper, "mnist"): {"forgetting", "decay"},
}


@pytest.mark.parametrize("part", recipes.PARTS)
@pytest.mark.parametrize(("recipe", "dataset"), HAVE, ids=lambda each: getattr(each, "__name__", each))
def test_a_part_that_is_there_can_be_left_out_and_nothing_else_changes(recipe, dataset, part):
    made = recipe(dataset)
    if part not in HAVE[recipe, dataset]:
        with pytest.raises(ValueError, match=f"has no such part as '{part}'"):
            recipes.without(made, part)
        return
    before = made.get_params()
    assert recipes.without(made, part) is made
    after = made.get_params()
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed == recipes.PARTS[part].keys()
    with pytest.raises(ValueError, match=f"has no such part as '{part}'"):
        recipes.without(made, part)


def test_recipes_can_be_imported_from_where_they_were():
    assert set(earlier.__all__) == set(recipes.__all__)
    assert all(getattr(earlier, name) is getattr(recipes, name) for name in recipes.__all__)
