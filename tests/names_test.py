"""Patterns over parameter names, and the plan of what trains."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.errors import ConfigError
from likewise.names import covers, make_plan, select, tower_of

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


PATTERNS = ["image", "image.0", "image.*norm*", "image.*.norm1.*", "image.*", "text.*norm*", "*norm*", "*.bias", "head"]


def test_a_pattern_that_covers_another_chooses_all_of_it() -> None:
    pairs = [(wide, pattern) for wide in PATTERNS for pattern in PATTERNS if covers(wide, pattern)]
    assert len(pairs) > 2 * len(PATTERNS)
    assert all({*select([pattern], NAMES)} <= {*select([wide], NAMES)} for wide, pattern in pairs)
    assert covers("image.*norm*", "image.-1.norm*")
    assert not covers("image.*norm*", "image.*")
    assert not covers("image.1", "image.10")


def test_a_pattern_that_chooses_nothing_is_an_error_even_beside_one_that_does() -> None:
    with pytest.raises(ConfigError) as caught:
        select(["image", "text.token"], NAMES)
    assert "pattern «text.token» chooses no parameter" in str(caught.value)
    assert "Did you mean text.tokens" in str(caught.value)
    assert "Names begin with head, image, scale, text" in str(caught.value)


BLOCKS = [
    f"{tower}.{i}.{part}" for tower, n in (("image", 12), ("text", 3)) for i in range(n) for part in ("norm1", "up")
]


def test_blocks_are_counted_from_the_end_in_each_tower() -> None:
    assert select(["image.-1"], BLOCKS) == ["image.11.norm1", "image.11.up"]
    assert select(["image.-12.norm*", "text.-1.up"], BLOCKS) == ["image.0.norm1", "text.2.up"]
    assert select(["text.-3"], BLOCKS) == ["text.0.norm1", "text.0.up"]
    # in the order of their numbers, whatever that of the names: 10 and 11 come before 2 as words
    assert select(["image.-1.up"], sorted(BLOCKS)) == ["image.11.up"]
    assert select(["image.-1.up"], [n for n in BLOCKS if n.startswith("image.0.")]) == ["image.0.up"]
    for beyond in ("image.-13", "image.-0", "text.-4.up", "image.-1.dwon", "head.-1", "image.1.-1"):
        with pytest.raises(ConfigError) as caught:
            select([beyond], BLOCKS)
        assert f"«{beyond}»" in str(caught.value)  # as it was asked for


def test_the_tower_that_a_number_acts_on() -> None:
    asked = {
        "image.0.up.bias": "image", "text.tokens": "text", "scale": "scale", "head.weight": "head",
        "adapters.lora.image.0.qkv.q.up": "image", "adapters.prompt.text.vectors": "text",
        "adapters.maple.both.0.words": "both",
    }  # fmt: skip
    assert {name: tower_of(name) for name in asked} == asked


@pytest.mark.parametrize(
    ("trains", "trunk", "image", "text"),
    [
        (("head.weight", "scale"), True, True, True),
        (("text.0.up", "adapters.prompt.text.vectors"), True, True, False),
        (("image.projection", "text.tokens"), True, False, False),
        (("image.projection.weight",), True, False, True),
        (("image.projection", "image.norm_post.weight"), False, False, True),
        (("adapters.film.image.norm_post.gain",), False, False, True),
        (("adapters.lora.image.projection.up",), False, False, True),  # not the projection's own name
        (("adapters.maple.both.0.words",), False, False, False),
        (("image.0.up",), False, False, True),
    ],
)
def test_what_an_adapter_leaves_constant_goes_by_its_tower(
    trains: tuple[str, ...], trunk: bool, image: bool, text: bool
) -> None:
    others = dict.fromkeys(("image.class", "text.positions", "adapters.lora.text.0.qkv.q.up"), 1)
    plan = make_plan(trains, {**dict.fromkeys(trains, 2), **others})
    assert (plan.trunk_constant, plan.image_constant, plan.text_constant) == (trunk, image, text)
    assert bool(plan.moved_trunk) != trunk
    assert plan.held == 3


def test_the_plan_groups_adapters_by_kind() -> None:
    plan = make_plan(["adapters"], {"adapters.lora.image.0.up": 5, "adapters.film.image.0.gain": 7, "image.0.up": 9})
    assert [line.split()[:3] for line in plan.text().splitlines()] == [
        ["trains", "adapters.lora", "5"],
        ["trains", "adapters.film", "7"],
        ["holds", "9", "numbers"],
    ]


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


def test_a_tower_without_norms_is_named_where_a_pattern_asks_for_them() -> None:
    names = ["image.0.conv1.weight", "image.projection", "text.0.norm1.weight"]
    with pytest.raises(ConfigError, match=r"image tower has no norms.*film-blocks") as caught:
        select(("image.*norm*",), names)
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        select(("image.0.norm2.weight",), ["image.0.norm1.weight", *names[1:], "text.0.norm2.weight"])
    assert "Did you mean image.0.norm1.weight or image.projection?" in str(caught.value)
    with pytest.raises(ConfigError, match="«adapters» chooses no parameter"):
        select(("adapters",), names)
