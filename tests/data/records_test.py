from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from likewise.data import ClassTable, Dataset, Record, Split
from likewise.data.shots import to_select
from likewise.errors import ConfigError, DataError, UsageError


@pytest.fixture
def data(plant: Callable[..., Path]) -> Dataset:
    plant("photos/train", cat=10, dog=9, emu=3)
    plant("photos/val", cat=6, dog=6, emu=2)
    return Dataset.open(plant("photos/test", cat=3, dog=3, emu=3).parent)


def test_class_table_names_order_and_digest() -> None:
    table = ClassTable.of(["snow_fox", "great-auk", "x"], {"x": "lynx"})
    assert table.names == ("snow fox", "great auk", "lynx")
    assert [table.index(f) for f in table.folders] == [0, 1, 2]
    assert len(table) == 3
    with pytest.raises(DataError, match="Did you mean snow_fox") as caught:
        table.index("snowfox")
    assert caught.value.code == "D04"
    others = [ClassTable.of(["great-auk", "snow_fox", "x"]), ClassTable.of(["snow_fox", "great-auk", "x"])]
    assert len({table.digest, *(o.digest for o in others)}) == 3
    with pytest.raises(ConfigError, match="no folder twice"):
        ClassTable.parse({"names": ["a", "b"], "folders": ["a", "a"]})


def test_report_splits_are_reached_only_through_the_log(data: Dataset) -> None:
    assert not hasattr(data, "report")
    assert data.access_log == []
    data.few(2, 0).read_report("the end")
    (entry,) = data.access_log
    assert (entry["why"], entry["splits"]) == ("the end", ["id"])
    assert datetime.fromisoformat(entry["when"]).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert data.tree()["access_log"] == [entry]


def test_shots_are_keyed_by_class_nested_and_never_outside_their_split(data: Dataset) -> None:
    two, three = data.few(2, 0), data.few(3, 0, allow_short=True)
    assert Counter(three.train.labels_N.tolist()) == {0: 3, 1: 3, 2: 3}
    assert Counter(three.select.labels_N.tolist()) == {0: 3, 1: 3, 2: 2}
    assert {r.key for r in two.train.records} < {r.key for r in three.train.records}
    assert {r.key for r in three.train.records} <= {r.key for r in data.train.records}
    assert not {r.key for r in three.train.records} & {r.key for r in three.select.records}
    assert three.audit.counts["train"] == {"cat": 3, "dog": 3, "emu": 3}
    assert data.audit.counts["train"]["cat"] == 10
    picks = {tuple(r.key for r in data.few(3, seed, allow_short=True).train.records) for seed in range(5)}
    assert len(picks) == 5
    # another class, or another order of listing, changes nothing for a class
    cats = [i for i, r in enumerate(data.train.records) if r.label == 0]
    alone = Dataset("x", data.classes, data.train.subset(cats[::-1]), data.select, []).few(3, 0, allow_short=True)
    assert {r.key for r in alone.train.records} == {r.key for r in three.train.records if r.label == 0}


def test_the_number_to_select_on_is_coops_for_few_shots_and_kims_for_many(data: Dataset) -> None:
    coop = {1: 1, 2: 2, 4: 4, 8: 4, 16: 4}  # min(num_shots, 4)
    kim = {256: 25, 450: 45, 512: 51}  # #shots / 10
    assert {shots: to_select(shots) for shots in {**coop, **kim}} == {**coop, **kim}
    assert [to_select(shots) for shots in (3, 32, 49, 50)] == [3, 4, 4, 5]
    pictures = tuple(Record(f"{i}", 0, Path(f"{i}")) for i in range(700))
    table = ClassTable.of(["one"])
    whole = Dataset("x", table, Split("train", "train", pictures[:600]), Split("select", "select", pictures[600:]), [])
    assert (len(whole.few(512, 0).train), len(whole.few(512, 0).select)) == (512, 51)
    few = Dataset("x", table, Split("train", "train", pictures[:600]), Split("select", "select", pictures[600:640]), [])
    with pytest.raises(DataError, match=r"«one» has 40 of 51 images to select on after the split. Use --shots 409, or"):
        few.few(512, 0)
    assert len(few.few(409, 0).select) == 40


def test_a_shortage_of_shots_is_an_error_unless_allowed(data: Dataset) -> None:
    with pytest.raises(DataError, match="10 shots asked, but «dog» has 9, «emu» has 3 of 10 training images") as caught:
        data.few(10, 0)
    assert caught.value.code == "D08"
    assert "and «emu» has 2 of 4 images to select on after the split" in str(caught.value)
    assert "--shots 2, or --allow-short" in str(caught.value)
    assert data.few(2, 0).audit.warnings == data.audit.warnings
    with pytest.raises(DataError, match=r"3 shots asked, but «emu» has 2 of 3 images to select on.*--shots 2, or"):
        data.few(3, 0)  # of which there are enough to train on
    short = data.few(10, 0, allow_short=True)
    assert Counter(short.train.labels_N.tolist()) == {0: 10, 1: 9, 2: 3}
    assert Counter(short.select.labels_N.tolist()) == {0: 4, 1: 4, 2: 2}
    said = "«dog» has 9, «emu» has 3 of 10 training images and «emu» has 2 of 4 images to select on, all used"
    assert said in short.audit.warnings[-1].message
    with pytest.raises(UsageError, match="0 shots"):
        data.few(0, 0)


def test_split_digest_follows_labels_order_and_files(data: Dataset) -> None:
    split, before = data.train, data.train.digest
    assert pickle.loads(pickle.dumps(split)).digest == before
    assert split.subset(range(len(split))).digest == before
    assert split.subset(range(1, len(split))).digest != before
    first = split.records[0]
    relabelled = (Record(first.key, 2, first.path), *split.records[1:])
    assert Split("train", "train", relabelled).digest != before
    os.utime(first.path, ns=(5, 5))
    assert split.digest != before


def test_wrong_roles_labels_and_templates_are_refused(data: Dataset) -> None:
    args = (data.name, data.classes)
    with pytest.raises(UsageError, match="role"):
        Dataset(*args, data.train, data.train, [])
    with pytest.raises(UsageError, match="names of their own"):
        Dataset(*args, data.train, data.select, [Split("id", "report", ()), Split("id", "report", ())])
    with pytest.raises(DataError, match="outside the 3 classes"):
        Dataset(*args, Split("train", "train", (Record("a", 3, Path("a")),)), data.select, [])
    with pytest.raises(UsageError, match="template"):
        Dataset(*args, data.train, data.select, [], templates=("a photo",))


def test_tree_and_manifest_describe_without_reading(data: Dataset) -> None:
    tree = data.tree()
    assert {name: s["images"] for name, s in tree["splits"].items()} == {"train": 22, "select": 14, "id": 9}
    assert tree["splits"]["train"]["classes"] == {"cat": 10, "dog": 9, "emu": 3}
    table = data.manifest()
    assert table.num_rows == 45
    assert Counter(table.column("split").to_pylist()) == {"train": 22, "select": 14, "test": 9}
    assert data.access_log == []
