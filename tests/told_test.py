"""The texts that tell classes or pictures: each once, groups against a search by hand, choices of their own."""

from __future__ import annotations

import numpy as np
import pytest

from likewise.data.order import choose
from likewise.errors import ConfigError
from likewise.fit.told import Told

CAPTIONS = [["a", "b"], ["c"], ["b", "d"], ["e", "f", "f"], ["c"]]
"""0 and 2 share b, so a, b and d are kin; 1 and 4 have the same caption; 3 says one thing twice."""


def groups_by_hand(captions: list[list[str]]) -> dict[str, set[str]]:
    """Text to all texts that can be reached from it by going from a text to a picture and on to its texts."""
    out = {}
    for text in {t for own in captions for t in own}:
        found = {text}
        while True:
            wider = found | {t for own in captions if found & set(own) for t in own}
            if wider == found:
                break
            found = wider
        out[text] = found
    return out


def test_texts_are_distinct_and_in_order_of_first_use() -> None:
    told = Told(CAPTIONS)
    assert told.texts == ["a", "b", "c", "d", "e", "f"]
    assert len(told) == 5


def test_kin_are_what_can_be_reached_through_shared_texts() -> None:
    told = Told(CAPTIONS)
    hand = groups_by_hand(CAPTIONS)
    for u, text in enumerate(told.texts):
        assert {told.texts[v] for v in np.flatnonzero(told.kin_U == told.kin_U[u])} == hand[text]


def test_a_code_is_the_text_of_that_number() -> None:
    told = Told(CAPTIONS)
    class_B, number_B = np.array([3, 0, 2, 3, 4]), np.array([2, 1, 1, 0, 0])
    want = [CAPTIONS[c][n] for c, n in zip(class_B, number_B, strict=True)]
    assert [told.texts[u] for u in told.code(class_B, number_B)] == want


def test_every_picture_draws_among_its_own_texts_and_in_time_all_of_them() -> None:
    told = Told(CAPTIONS)
    class_B = np.arange(5)
    drawn: list[set[str]] = [set() for _ in CAPTIONS]
    for epoch in range(60):
        number_B = choose(0, epoch, class_B, told.counts_C[class_B])
        for c, u in enumerate(told.code(class_B, number_B)):
            drawn[c].add(told.texts[u])
    assert drawn == [set(own) for own in CAPTIONS]


def test_one_number_for_all_draws_as_it_does_for_each() -> None:
    ids_B = np.arange(40)
    assert np.array_equal(choose(3, 7, ids_B, 6), choose(3, 7, ids_B, np.full(40, 6)))


def test_pair_sampling_needs_as_many_texts_for_every_picture() -> None:
    assert Told([["a", "b"], ["c", "d"]]).each == 2
    with pytest.raises(ConfigError, match="between 1 and 3 texts"):
        _ = Told(CAPTIONS).each
