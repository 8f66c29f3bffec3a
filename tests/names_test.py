"""Patterns over parameter names, and the plan of what trains."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.errors import ConfigError
from likewise.names import make_plan, select

NAMES = [
    "scale", "image.class", "image.norm_pre.weight", "image.0.norm1.weight", "image.0.qkv.weight",
    "image.10.norm1.bias", "text.tokens", "text.0.norm1.weight", "text.norm_post.weight", "head.weight", "head.bias",
]  # fmt: skip
SIZES = {name: 10 + i for i, name in enumerate(NAMES)}


def test_prefixes_choose_whole_parts_and_patterns_choose_by_shape() -> None:
    assert select(["image.0"], NAMES) == ["image.0.norm1.weight", "image.0.qkv.weight"]
    assert select(["head", "scale"], NAMES) == ["scale", "head.weight", "head.bias"]  # in the order of the names
    assert select(["text.*norm*"], NAMES) == ["text.0.norm1.weight", "text.norm_post.weight"]
    assert select(["image.1*"], NAMES) == ["image.10.norm1.bias"]
    with pytest.raises(ConfigError, match=r"«image\.1»"):
        select(["image.1"], NAMES)  # a prefix of letters is not a prefix of names
    with pytest.raises(ConfigError, match="«Image»"):
        select(["Image"], NAMES)  # on every system


@given(st.lists(st.sampled_from(["image", "text.*", "*norm*", "head", "scale", "*.bias"]), min_size=1))
def test_select_equals_a_filter_by_hand(patterns: list[str]) -> None:
    by_hand = [n for n in NAMES if any(fnmatchcase(n, p) or n.split(".")[0] == p for p in patterns)]
    assert select(patterns, NAMES) == by_hand


def test_a_pattern_that_chooses_nothing_is_an_error_even_beside_one_that_does() -> None:
    with pytest.raises(ConfigError) as caught:
        select(["image", "text.token"], NAMES)
    assert "pattern «text.token» chooses no parameter" in str(caught.value)
    assert "Did you mean text.tokens" in str(caught.value)
    assert "Names begin with head, image, scale, text" in str(caught.value)


def test_the_plan_counts_and_says_what_stays_constant() -> None:
    plan = make_plan(["image", "scale"], SIZES)
    assert plan.trains == tuple(n for n in NAMES if n.startswith("image") or n == "scale")
    assert plan.trainable == sum(SIZES[n] for n in plan.trains)
    assert plan.trainable + plan.held == sum(SIZES.values())
    assert (plan.image_constant, plan.text_constant) == (False, True)
    both = make_plan(["*norm*"], SIZES)
    assert (both.image_constant, both.text_constant) == (False, False)
    head = make_plan(["head"], SIZES)
    assert (head.image_constant, head.text_constant, head.trainable) == (True, True, 19 + 20)


def test_the_plan_is_printed_and_stored() -> None:
    plan = make_plan(["image", "head"], SIZES)
    lines = plan.text().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["trains", "image", "65"],
        ["trains", "head", "39"],
        ["holds", "61", "numbers"],
    ]
    assert "in 5 tensors" in lines[0]
    assert "image.class, image.norm_pre.weight, image.0.norm1.weight and 2 more" in lines[0]
    tree = json.loads(json.dumps(plan.tree()))
    assert tree["trains"] == list(plan.trains)
    assert tree["counts"] == [11, 12, 13, 14, 15, 19, 20]
    assert (tree["held"], tree["image_constant"], tree["text_constant"]) == (61, False, True)


def test_a_stage_that_trains_nothing_says_so() -> None:
    plan = make_plan((), SIZES)
    assert plan.text() == "trains nothing"
    assert (plan.trainable, plan.held, plan.image_constant, plan.text_constant) == (0, sum(SIZES.values()), True, True)
