from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest

from likewise.data import Dataset, SourceOptions
from likewise.data.split import proportional, stratified, write_manifest
from likewise.errors import UsageError

BOTH = {"select": 0.15, "report": 0.15}


def divide(
    classes: Sequence[str], ties: Sequence[Sequence[Hashable]] | None = None, seed: int = 0, keys: Sequence[str] = ()
) -> list[str]:
    keys = keys or [f"{c}/{i}" for i, c in enumerate(classes)]
    return list(stratified(keys, classes, ties or [[]] * len(keys), {"select": 0.15, "report": 0.15}, seed))


def test_every_class_gives_its_share() -> None:
    classes = ["a"] * 100 + ["b"] * 20 + ["c"] * 3 + ["d"] * 2 + ["e"]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for c, side in zip(classes, divide(classes), strict=True):
        counts[c][side] += 1
    assert counts["a"] == {"train": 70, "select": 15, "report": 15}
    assert counts["b"] == {"train": 14, "select": 3, "report": 3}
    assert counts["c"] == {"train": 1, "select": 1, "report": 1}
    assert counts["d"] == {"train": 1, "report": 1}
    assert counts["e"] == {"train": 1}


def hamilton(sizes: np.ndarray, count: int) -> np.ndarray:
    """The largest remainder, in NumPy: whole quotas, then one more for the largest fractions."""
    quota = sizes * count / sizes.sum()
    whole = np.floor(quota).astype(int)
    whole[np.argsort(whole - quota, kind="stable")[: count - whole.sum()]] += 1
    return whole


@pytest.mark.parametrize(("sizes", "count"), [([30, 29, 28, 11, 102], 20), ([58, 60, 59, 71], 37), ([7, 500], 250)])
def test_a_drawing_in_proportion_is_hamiltons(sizes: list[int], count: int) -> None:
    labels_N = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    drawn = proportional(labels_N.tolist(), count, "word")
    assert drawn == sorted(set(drawn))
    assert np.bincount(labels_N[drawn]).tolist() == hamilton(np.array(sizes), count).tolist()
    assert drawn == proportional(labels_N.tolist(), count, "word")
    assert drawn != proportional(labels_N.tolist(), count, "other")


def test_a_drawing_in_proportion_forgets_no_class_and_empties_none() -> None:
    labels = [0] * 1000 + [1] * 2 + [2] * 3 + [3]
    drawn = proportional(labels, 20, "word")
    assert Counter(labels[i] for i in drawn) == {0: 18, 1: 1, 2: 1}
    assert len(set(proportional(labels, 1004, "word"))) == 1004  # more than would leave one of each
    few = proportional([label for label in range(50) for _ in range(2)], 9, "word")  # too few for one of each
    assert len({i // 2 for i in few}) == len(few) == 9
    assert len({i // 2 for i in proportional(list(range(40)), 9, "word")}) > 1  # none has two: drawn all the same
    assert proportional([0, 0, 0], 0, "word") == []


def test_the_order_of_listing_is_without_effect_and_the_seed_is_not() -> None:
    keys, classes = [f"{i}.jpg" for i in range(80)], [f"{i % 4}" for i in range(80)]
    forth = dict(zip(keys, divide(classes, keys=keys), strict=True))
    back = dict(zip(keys[::-1], divide(classes[::-1], keys=keys[::-1]), strict=True))
    assert forth == back
    assert forth != dict(zip(keys, divide(classes, keys=keys, seed=1), strict=True))


def test_one_more_picture_moves_at_most_a_few() -> None:
    keys, classes = [f"{i}.jpg" for i in range(200)], ["a"] * 200
    before = dict(zip(keys, divide(classes, keys=keys), strict=True))
    after = dict(zip([*keys, "new.jpg"], divide([*classes, "a"], keys=[*keys, "new.jpg"]), strict=True))
    assert sum(before[k] != after[k] for k in keys) <= 3


def test_what_is_tied_stays_together_also_through_others() -> None:
    classes = ["a"] * 60 + ["b"] * 60
    ties: list[list[Hashable]] = [[("group", i // 4)] for i in range(120)]
    ties[0].append(("pixels", "x"))
    ties[119].append(("pixels", "x"))  # so the first and the last group are one
    sides = divide(classes, ties)
    for start in range(0, 120, 4):
        assert len(set(sides[start : start + 4])) == 1
    assert sides[0] == sides[119]
    assert {"train", "select", "report"} == set(sides[:60]) == set(sides[60:])


def test_large_groups_still_reach_every_side_and_a_single_one_stays_in_train() -> None:
    three: list[list[Hashable]] = [[i // 20] for i in range(60)]
    assert set(divide(["a"] * 60, three)) == {"train", "select", "report"}
    assert set(divide(["a"] * 60, [["all"]] * 60)) == {"train"}


def test_groups_that_cross_classes_do_not_crowd_out_train() -> None:
    drawn = [(c, g) for c in range(60) for g in range(20) if (c * c * 7 + g * 11 + c * g * g) % 11 < 4]
    sides = divide([f"{c}" for c, _ in drawn], [[g] for _, g in drawn])
    shares = {side: sides.count(side) / len(sides) for side in ("train", "select", "report")}
    assert shares["train"] > 0.55
    assert min(shares.values()) > 0.05
    assert all(len({s for (_, g), s in zip(drawn, sides, strict=True) if g == group}) <= 1 for group in range(20))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_manifest_gives_the_same_dataset_again(plant: Callable[..., Path], tmp_path: Path, ending: str) -> None:
    (tmp_path / "names.yaml").write_text("a1_x: red, round\nb_2: blue\n")
    photos = plant("photos", a1_x=20, b_2=20)
    winter = plant("photos_winter", a1_x=3, b_2=3)
    options = SourceOptions(classes_file=str(tmp_path / "names.yaml"), seed=3)
    data = Dataset.open(photos, ood={"winter": winter}, options=options)
    manifest = tmp_path / f"m.{ending}"
    write_manifest(data, manifest)
    again = Dataset.open(manifest)
    assert again.classes == data.classes
    assert again.classes.names == ("red, round", "blue")
    assert again.domains == data.domains == ("id", "winter")
    mine, theirs = data.read_report("test"), again.read_report("test")
    for one, other in [(data.train, again.train), (data.select, again.select), *((mine[d], theirs[d]) for d in mine)]:
        assert [(r.key, r.label) for r in one.records] == [(r.key, r.label) for r in other.records]
        assert one.digest == other.digest
    assert [r.key for r in data.few(2, 0).train.records] == [r.key for r in again.few(2, 0).train.records]
    assert "path" in data.manifest().column_names
    if ending == "csv":
        (tmp_path / "moved").mkdir()
        photos.rename(tmp_path / "moved" / "photos")
        winter.rename(tmp_path / "moved" / "photos_winter")
        manifest.rename(tmp_path / "moved" / "m.csv")
        assert Dataset.open(tmp_path / "moved" / "m.csv").train.labels_N.tolist() == data.train.labels_N.tolist()


def test_a_manifest_of_another_ending_is_refused(plant: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.json"):
        write_manifest(Dataset.open(plant("photos", a=4, b=4)), tmp_path / "m.json")
