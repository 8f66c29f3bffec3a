"""Food-101, DTD and EuroSAT from made-up copies, against torchvision's readers of the same folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import DTD, EuroSAT, Food101

from likewise.datasets import dtd, eurosat, food
from likewise.datasets.named import order_of
from likewise.errors import DataError

PUBLISHED = json.loads((Path(__file__).parent / "published_classes.json").read_text())
FULL = {entry.name: entry for family in (food, dtd, eurosat) for entry in family.ENTRIES}
SMALL = {entry.name: replace(entry, counts={}) for entry in FULL.values()}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_food_has_its_official_test_and_part_of_the_training_set_to_select_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.datasets.food.SELECT", 50)
    place, names = root / "food-101", PUBLISHED["coop-food-101"]
    (place / "meta").mkdir(parents=True)
    (place / "meta" / "classes.txt").write_text("\n".join(names) + "\n")
    for part, numbers in (("train", range(3)), ("test", range(3, 5))):
        listed = {name: [f"{name}/{n}" for n in numbers] for name in names}
        (place / "meta" / f"{part}.json").write_text(json.dumps(listed))
        (place / "meta" / f"{part}.txt").write_text("".join(f"{line}\n" for some in listed.values() for line in some))
        for line in (line for some in listed.values() for line in some):
            touch(place / "images" / f"{line}.jpg")
    data = SMALL["food-101"]()
    report = data.read_report("test")
    assert [len(s) for s in (data.train, data.select, report["id"])] == [253, 50, 202]
    assert data.classes.names == tuple(name.replace("_", " ") for name in names)
    assert data.classes.folders == tuple(names)
    theirs = {part: Food101(root, split=part) for part in ("train", "test")}
    ours = {(r.path, r.label) for split in data.splits() for r in split.records}
    assert ours == set(zip(theirs["train"]._image_files, theirs["train"]._labels, strict=True))
    assert [(r.path, r.label) for r in report["id"].records] == list(
        zip(theirs["test"]._image_files, theirs["test"]._labels, strict=True)
    )
    assert data.select.records == SMALL["food-101"]().select.records
    assert len(set(data.select.labels_N)) > 30
    with pytest.raises(DataError, match="train has 253 pictures instead of 68,175"):
        FULL["food-101"]()
    (place / "meta" / "test.txt").write_text("apple_tart/1\n")
    with pytest.raises(DataError, match=r"test.txt has classes that the dataset has not: apple_tart"):
        SMALL["food-101"]()


@pytest.mark.parametrize("folder", ["dtd", "dtd/dtd"])
def test_dtd_is_its_first_split(root: Path, folder: str) -> None:
    place, names = root / folder, PUBLISHED["coop-dtd"]
    (place / "labels").mkdir(parents=True)
    for number, part in enumerate(("train", "val", "test")):
        for split in (1, 2):  # the second split is the first's pictures in other parts
            n = (number + split) % 3
            text = "".join(f"{name}/{name}_{n:04d}.jpg\n" for name in names[::-1])
            (place / "labels" / f"{part}{split}.txt").write_text(text)
        for name in names:
            touch(place / "images" / name / f"{name}_{number:04d}.jpg")
    data = SMALL["dtd"]()
    assert data.classes.names == tuple(names)
    assert len(set(data.templates)) == 8
    report = data.read_report("test")
    for split, part in ((data.train, "train"), (data.select, "val"), (report["id"], "test")):
        assert len(split) == 47
        assert all(r.path.parent.name == names[r.label] for r in split.records)
        if folder == "dtd/dtd":  # torchvision's place
            theirs = DTD(root, split=part)
            assert [r.path for r in split.records] == theirs._image_files
            assert split.labels_N.tolist() == theirs._labels
    with pytest.raises(DataError, match="id has 47 pictures instead of 1,880"):
        FULL["dtd"]()
    (place / "labels" / "val1.txt").unlink()
    with pytest.raises(DataError, match=r"val1.txt is not there"):
        SMALL["dtd"]()


@pytest.mark.parametrize("folder", ["eurosat/2750", "EuroSAT_RGB"])
def test_eurosat_is_split_by_key_into_kims_sizes(root: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr("likewise.datasets.eurosat.TEST", 40)
    monkeypatch.setattr("likewise.datasets.eurosat.SELECT", 10)
    kinds = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
             "Residential", "River", "SeaLake")  # fmt: skip
    for kind in kinds:
        for n in range(1, 12):
            touch(root / folder / kind / f"{kind}_{n}.jpg")
    data = SMALL["eurosat"]()
    report = data.read_report("test")
    splits = (data.train, data.select, report["id"])
    assert [len(s) for s in splits] == [60, 10, 40]
    assert data.classes.folders == kinds
    assert data.classes.names[2] == "brushland or shrubland"
    assert data.classes.names[8:] == ("river", "lake or sea")
    everything = [(str(r.path), r.label) for split in splits for r in split.records]
    assert len(set(everything)) == 110
    if folder == "eurosat/2750":
        assert sorted(everything) == sorted(EuroSAT(root).samples)
    assert (np.bincount(report["id"].labels_N, minlength=10) > 0).all()
    assert [s.records for s in splits[:2]] == [s.records for s in SMALL["eurosat"]().splits()]
    with pytest.raises(DataError, match="train has 60 pictures instead of 15,000"):
        FULL["eurosat"]()


def test_sizes_and_hashes_are_the_published_ones() -> None:
    assert FULL["eurosat"].counts == {"train": 15_000, "select": 2_000, "id": 10_000}
    assert sum(FULL["food-101"].counts.values()) == 101_000
    assert FULL["food-101"].classes == order_of([name.replace("_", " ") for name in PUBLISHED["coop-food-101"]])
    assert FULL["dtd"].classes == order_of(PUBLISHED["coop-dtd"])
