"""COCO, Flickr30k and CC3M from made-up copies: whose pictures are trained on, which are held, and with which texts."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likewise.data.captions import PairOptions, Pairs
from likewise.datasets import retrieval
from likewise.errors import DataError, UsageError

Plant = Callable[[Path, Iterable[str]], None]
ENTRIES = {entry.name: entry for entry in retrieval.ENTRIES}
SPLITS = {"train": 6, "restval": 3, "val": 2, "test": 4}


def small(name: str, **options: Any) -> Pairs:
    entry = ENTRIES[name]
    return replace(entry, place=replace(entry.place, counts={}))(PairOptions(**options))


def karpathy(place: Path, path_of: Callable[[str, int], dict[str, str]]) -> list[dict[str, Any]]:
    """Karpathy's file, its splits in turns; every picture has two sentences, spaced as annotators leave them."""
    images = [
        {**path_of(split, i), "split": split, "imgid": i,
         "sentences": [{"raw": f" A {split}  {i}\n", "tokens": []}, {"raw": f"{split} {i} again", "tokens": []}]}
        for i in range(6) for split, n in SPLITS.items() if i < n
    ]  # fmt: skip
    place.write_text(json.dumps({"images": images, "dataset": "x"}))
    return images


@pytest.fixture
def coco(root: Path, plant: Plant) -> Path:
    """Karpathy's restval, val and test are of COCO's validation pictures."""
    place = root / "coco"

    def path_of(split: str, i: int) -> dict[str, str]:
        part = "train2014" if split == "train" else "val2014"
        return {"filepath": part, "filename": f"COCO_{part}_{split}{i}.jpg"}

    (place / "annotations").mkdir(parents=True)
    images = karpathy(place / "dataset_coco.json", path_of)
    plant(place, [f"{image['filepath']}/{image['filename']}" for image in images])
    return place


def test_karpathys_coco_trains_on_train_and_restval_and_holds_test(coco: Path) -> None:
    pairs = small("coco-captions")
    assert (len(pairs), len(pairs.held)) == (9, 4)
    assert [r.key.split("_")[-1][:-4] for r in pairs.held.records] == [f"test{i}" for i in range(4)]
    kinds = {r.key.split("_")[-1][:-5] for r in pairs.split.records}
    assert kinds == {"train", "restval"}
    place = [r.key for r in pairs.split.records].index("val2014/COCO_val2014_restval2.jpg")
    assert pairs.captions[place] == ("A restval 2", "restval 2 again")
    assert pairs.held_captions[3] == ("A test 3", "test 3 again")
    want = Image.open(coco / "val2014" / "COCO_val2014_restval2.jpg").convert("RGB")
    assert pairs.split.open(place).tobytes() == want.tobytes()
    texts = pairs.held_groups()
    assert len(texts.texts) == 8
    assert texts.codes[3] == (6, 7)
    assert not {t for own in pairs.captions for t in own} & set(texts.texts)
    assert pairs.audit.counts == {"pairs": {"": 9}, "held": {"": 4}}


def test_options_take_a_part_and_hold_nothing(coco: Path) -> None:
    few = small("coco-captions", pairs=3, seed=1)
    assert (len(few), len(few.held)) == (3, 4)
    assert {r.key for r in few.split.records} < {r.key for r in small("coco-captions", pairs=5, seed=1).split.records}
    assert len(small("coco-captions", held=0.0).held) == 0
    assert small("coco-captions", held=0.2).digest == small("coco-captions").digest


def years(place: Path, plant: Plant, year: int, sizes: dict[str, int]) -> None:
    (place / "annotations").mkdir(parents=True, exist_ok=True)
    for part, n in sizes.items():
        plant(place, [f"{part}{year}/{i:012d}.jpg" for i in range(n)])
        images = [{"id": 70 + i, "file_name": f"{i:012d}.jpg"} for i in range(n)]
        notes = [
            {"image_id": 70 + i, "id": 10 * i + k, "caption": f"{part} {i}, {k}"} for k in (0, 1) for i in range(n)
        ]
        tree = {"images": images, "annotations": notes}
        (place / "annotations" / f"captions_{part}{year}.json").write_text(json.dumps(tree))


def test_cocos_own_years_hold_its_validation(root: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "MOST_HELD", 4)
    years(root / "coco", plant, 2017, {"train": 5, "val": 3})
    pairs = small("coco-captions-2017")
    assert (len(pairs), len(pairs.held), pairs.name) == (5, 3, "coco-captions-2017")
    assert pairs.captions[4] == ("train 4, 0", "train 4, 1")
    assert pairs.held_captions[2] == ("val 2, 0", "val 2, 1")
    assert pairs.held.records[2].path == root / "coco" / "val2017" / f"{2:012d}.jpg"
    assert ENTRIES["coco-captions-2014"].place.found() is None
    years(root / "coco", plant, 2014, {"train": 2, "val": 9})
    held = small("coco-captions-2014").held
    assert len(held) == 4  # of nine, by key
    assert [r.key for r in held.records] == sorted(r.key for r in held.records)
    assert held == small("coco-captions-2014", seed=3).held


def test_flickr30k(root: Path, plant: Plant) -> None:
    place = root / "flickr30k"
    place.mkdir()
    images = karpathy(place / "dataset_flickr30k.json", lambda split, i: {"filename": f"{split}{i}.jpg"})
    plant(place / "flickr30k-images", [image["filename"] for image in images])
    with pytest.raises(DataError, match=r"pairs has 9 pictures instead of 29,000.*held has 4 .* 1,000"):
        ENTRIES["flickr30k"]()
    pairs = small("flickr30k")
    assert (len(pairs), len(pairs.held), pairs.name) == (9, 4, "flickr30k")
    assert {r.path.parent for r in pairs.split.records} == {place / "flickr30k-images"}


def test_what_is_not_whole_is_refused(coco: Path) -> None:
    (coco / "val2014" / "COCO_val2014_test1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 pictures that the dataset lists are not there.*test1"):
        small("coco-captions")
    (coco / "dataset_coco.json").write_text('{"images": [{"split": "train"}]}')
    with pytest.raises(DataError, match="is not Karpathy's JSON of captions"):
        small("coco-captions")
    (coco / "dataset_coco.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="no pictures of the splits train and test"):
        small("coco-captions")
    (coco / "dataset_coco.json").unlink()
    with pytest.raises(DataError, match=r"coco-captions is not here .*coco.*caption_datasets\.zip") as caught:
        ENTRIES["coco-captions"]()
    assert caught.value.code == "D12"
    with pytest.raises(UsageError, match="likewise caption coco-captions"):
        ENTRIES["coco-captions"].place.read(coco)


def tar(path: Path, names: Iterable[str]) -> None:
    with tarfile.open(path, "w") as file:
        for name in names:
            picture = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), len(name) * 9 + ord(name[-1]), dtype=np.uint8)).save(picture, "PNG")
            for ending, data in (("png", picture.getvalue()), ("txt", f"text of {name}".encode())):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


def test_cc3m_from_shards_or_a_table(root: Path, plant: Plant) -> None:
    place = root / "cc3m"
    place.mkdir()
    assert ENTRIES["cc3m"].place.found() is None
    plant(place, ["training/1.jpg", "training/2.jpg"])
    with open(place / "Train_GCC-training_output.csv", "w", newline="") as file:
        rows = [("title", "filepath"), ("a dog, barking", "training/1.jpg"), ("a cat", "training/2.jpg")]
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE).writerows(rows)
    assert small("cc3m", held=0).captions == (("a dog, barking",), ("a cat",))
    tar(place / "00000.tar", ["a", "bb"])
    assert small("cc3m", held=0).captions == (("text of a",), ("text of bb",))
    tar(place / "cc3m-train-0000.tar", ["c", "dd", "eee"])
    tar(place / "cc3m-validation-0000.tar", ["f"])
    pairs = small("cc3m", held=0)
    assert pairs.captions == (("text of c",), ("text of dd",), ("text of eee",))
    assert pairs.name == "cc3m"


def test_cards_say_where_and_how() -> None:
    for entry in ENTRIES.values():
        assert entry.card().startswith(f"# {entry.name}\n")
        assert "get it: " in entry.card()
    assert "held: 5,000 pictures" in ENTRIES["coco-captions"].card()
