"""Combinations of recipes, and the rates at which named ones come."""

from __future__ import annotations

import pytest

from likewise.api import ladder
from likewise.errors import ConfigError, UsageError
from likewise.heads import Keep, Linear
from likewise.recipe import AdamW, Recipe, joint, one, then, wise
from likewise.recipes import LADDERS, RECIPES, flyp, full, get, knn, linear, ln, lp_ft


def rates(recipe: Recipe) -> list[float]:
    return [stage.fit.lr for stage in recipe.stages if isinstance(stage.fit, AdamW)]


def test_named_recipes_come_at_the_encoders_rates_and_own_values_stay() -> None:
    assert rates(get("flyp", 30.0)) == [pytest.approx(3e-4)]
    assert rates(get("lp-ft", 30.0)) == [pytest.approx(3e-4)]
    assert rates(get("flyp-published", 30.0)) == [1e-5]
    assert get("ln") == ln
    mine = flyp.edited("stages.0.fit.lr=0.1")
    assert rates(ladder(mine, "standard", 30.0)["FLYP"]) == [0.1]
    assert rates(ladder({"a": flyp, "b": mine}, "standard", 30.0)["flyp"]) == [pytest.approx(3e-4)]
    assert list(ladder("ln, flyp,ln", "standard", 1.0)) == ["ln", "flyp"]
    assert list(ladder(None, "quick", 1.0)) == list(LADDERS["quick"])
    with pytest.raises(UsageError):
        ladder(" , ", "standard", 1.0)


def test_then_keeps_a_linear_head() -> None:
    assert [stage.trains for stage in lp_ft.stages] == [("head",), ("image", "head")]
    assert isinstance(lp_ft.stages[1].head, Keep)
    assert isinstance(lp_ft.head, Linear)
    assert lp_ft.merge == full.merge


def test_joint_trains_what_either_trains() -> None:
    both = joint(ln, full)
    assert both.stages[0].trains == ("image.*norm*", "text.*norm*", "image", "head")
    assert both.stages[0].head == full.stages[0].head
    for first, second in ((lp_ft, ln), (ln, linear)):
        with pytest.raises(ConfigError):
            joint(first, second)
    assert len(then(ln, linear).stages) == 2


def test_what_has_no_path_says_why() -> None:
    with pytest.raises(ConfigError, match="neighbours"):
        wise(knn, 0.5)
    assert wise(flyp, 0.25).merge.alpha == 0.25  # type: ignore[union-attr]


def test_contradictions_are_refused() -> None:
    for stage in (
        {"trains": ("head",)},
        {"trains": (), "fit": AdamW(lr=1.0)},
        {"trains": ("head",), "fit": AdamW(lr=1.0)},
    ):
        with pytest.raises(ValueError, match=r"fit|head"):
            one(**stage)
    assert all(Recipe.parse(recipe.tree()) == recipe for recipe in RECIPES.values())
