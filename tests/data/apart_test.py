"""Pairs whose pictures a judge measures on are left out, by pixels, whatever the file; report splits stay unread."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likewise.data import scan
from likewise.data.apart import apart
from likewise.data.captions import PairOptions, Pairs, open_pairs
from likewise.data.records import Dataset
from likewise.errors import DataError

Plant = Callable[..., Path]


@pytest.fixture
def judge(plant: Plant) -> Dataset:
    """Two classes, divided 70/15/15."""
    return Dataset.open(plant("photos", cat=20, dog=20))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def written(folder: Path, judge: Dataset, which: dict[str, int], fresh: int, draw: Callable[..., Image.Image]) -> str:
    """A table of captions: so many pictures of each split of the judge, in another format, and fresh ones."""
    folder.mkdir()
    rows = []
    splits = {"train": judge.train, "select": judge.select, "id": judge.read_report("a test")["id"]}
    judge.access_log.clear()
    for name, count in which.items():
        for i, record in enumerate(splits[name].records[:count]):
            Image.fromarray(pixels(record.path)).save(folder / f"{name}{i}.bmp")
            rows.append((f"{name}{i}.bmp", f"{name} number {i}"))
    for i in range(fresh):
        draw(1000 + i).save(folder / f"fresh{i}.png")
        rows.append((f"fresh{i}.png", f"fresh {i}"))
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filepath", "caption"), *rows])
    return str(folder / "pairs.csv")


def opened(source: str) -> Pairs:
    return open_pairs(source, PairOptions(held=0))


def test_what_is_measured_on_is_not_trained_on(
    tmp_path: Path, judge: Dataset, draw: Callable[..., Image.Image]
) -> None:
    pairs = opened(written(tmp_path / "web", judge, {"train": 2, "select": 2, "id": 3}, 4, draw))
    left = apart(pairs, [judge])
    # by another road: every pixel of every picture against every other
    measured = [pixels(r.path) for s in (judge.select, judge.read_report("a test")["id"]) for r in s.records]
    own = {r.key: pixels(r.path) for r in pairs.split.records}
    free = [k for k, p in own.items() if not any(p.shape == m.shape and (p == m).all() for m in measured)]
    assert [r.key for r in left.split.records] == free
    assert sorted(free) == ["fresh0.png", "fresh1.png", "fresh2.png", "fresh3.png", "train0.bmp", "train1.bmp"]
    assert [r.label for r in left.split.records] == list(range(6))
    assert [texts[0].split()[0] for texts in left.captions] == ["train", "train", "fresh", "fresh", "fresh", "fresh"]
    (warning,) = left.audit.warnings
    assert warning.code == "D10"
    assert warning.message.startswith("the pictures of 5 of 11 pairs are select or report pictures of photos (same ")
    assert warning.message.endswith("so these pairs were left out of training; 6 remain.")
    assert {key for key, _ in left.audit.duplicates} == {"select0.bmp", "select1.bmp", "id0.bmp", "id1.bmp", "id2.bmp"}
    assert left.audit.counts["pairs"] == {"": 6}
    assert pairs.audit.warnings == []  # what was given stays as it was
    assert len(pairs) == 11


def test_any_of_the_judges_counts(
    tmp_path: Path, judge: Dataset, plant: Plant, draw: Callable[..., Image.Image]
) -> None:
    pairs = opened(written(tmp_path / "web", judge, {"id": 2}, 3, draw))
    other = Dataset.open(plant("others", owl=20, fox=20))
    assert len(apart(pairs, [other, judge])) == 3
    assert apart(pairs, [other]) is pairs


def test_where_none_is_left_it_is_an_error(tmp_path: Path, judge: Dataset, draw: Callable[..., Image.Image]) -> None:
    pairs = opened(written(tmp_path / "web", judge, {"select": 2, "id": 2}, 0, draw))
    with pytest.raises(DataError, match=r"of 4 of 4 pairs .* no pair is left to train on.*--eval") as caught:
        apart(pairs, [judge])
    assert caught.value.code == "D15"


def test_what_the_audit_saw_is_not_opened_again_and_no_reading_is_logged(
    tmp_path: Path, judge: Dataset, draw: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = opened(written(tmp_path / "web", judge, {"id": 2}, 3, draw))
    judged = Dataset.open(tmp_path / "photos")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "attempt", lambda *_: pytest.fail("a picture was opened again"))
        assert len(apart(pairs, [judged])) == 3
    assert judged.access_log == []
    # data that no audit opened (it ships, or is named) is opened for its fingerprints
    audit = dataclasses.replace(judged.audit, pixels={})
    unseen = Dataset("named", judged.classes, judged.train, judged.select, list(judged.read_report("a test").values()))
    unseen.audit, unseen.access_log = audit, []
    assert len(apart(pairs, [unseen])) == 3
    assert unseen.access_log == []
