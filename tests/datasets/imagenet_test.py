"""ImageNet and its shifts from a made-up copy: labels, subsets, merged classes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from likewise.data.records import Split
from likewise.datasets import DATASETS
from likewise.datasets.imagenet import synsets
from likewise.errors import DataError
from likewise.predict import of_split

Plant = Callable[[Path, Iterable[str]], None]
ENTRY = replace(DATASETS["imagenet"], counts={})
IDS = synsets()
SUNGLASSES = (836, 837)


@pytest.fixture
def copy(root: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("likewise.datasets.imagenet.SELECT", 300)
    place = root / "imagenet"
    plant(place, [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in IDS for i in (1, 2)])
    plant(place, [f"val/{wnid}/ILSVRC2012_val_{i}.JPEG" for i, wnid in enumerate(IDS)])
    return place


def test_labels_are_the_sorted_ids_and_names_are_openais(copy: Path) -> None:
    data = ENTRY()
    assert ENTRY.found() == copy
    (identity,) = data.read_report("test").values()
    assert (len(data.train), len(data.select), len(identity)) == (1700, 300, 1000)
    for record in (*data.train.records, *data.select.records, *identity.records):
        assert record.path.parent.name == IDS[record.label]
    assert not set(data.train.records) & set(data.select.records)
    assert data.classes.names[:2] == ("tench", "goldfish")
    assert data.classes.folders[836] == "n04355933"
    assert len(data.templates) == 80
    twice = [f.message for f in data.audit.warnings if f.code == "D16"]
    assert len(twice) == 2
    assert any("sunglasses" in said and "836, 837" in said for said in twice)


def test_shifts_are_found_beside_it_under_its_own_labels(copy: Path, plant: Plant) -> None:
    plant(copy.parent / "imagenetv2-matched-frequency-format-val", [f"{i}/x.jpeg" for i in range(1000)])
    part_r, part_a = synsets("imagenet_r"), synsets("imagenet_a")
    plant(copy.parent / "imagenet-r", [f"{wnid}/art_0.jpg" for wnid in part_r])
    plant(copy.parent / "imagenet-a", [f"{wnid}/0.9_x.jpg" for wnid in part_a])
    plant(copy.parent / "sketch", [f"{wnid}/sketch_1.JPEG" for wnid in IDS])
    report = ENTRY().read_report("test")
    assert list(report) == ["id", "v2", "r", "a", "sketch"]
    assert all(int(r.path.parent.name) == r.label for r in report["v2"].records)  # not in the order of words
    for name, part in (("r", part_r), ("a", part_a)):
        assert len(part) == 200
        assert all(IDS[r.label] == r.path.parent.name for r in report[name].records)
        assert report[name].among == tuple((IDS.index(wnid),) for wnid in part)
    assert report["sketch"].among == report["v2"].among == ()


def write_maps(place: Path) -> None:
    """ObjectNet's metadata for two labels, one of which two ImageNet classes stand for; ids are 2012's, reversed."""
    place.mkdir(parents=True)
    lines = [f"long name {999 - i}" for i in range(1000)]
    (place / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    (place / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps({str(i): 999 - i for i in range(1000)}))
    labels = {"Sunglasses": "long name 837; long name 836", "Banana": "long name 954"}
    (place / "objectnet_to_imagenet_1k.json").write_text(json.dumps(labels))
    folders = {"sunglasses": "Sunglasses", "banana": "Banana", "air_freshener": "Air freshener"}
    (place / "folder_to_objectnet_label.json").write_text(json.dumps(folders))


def test_objectnet_is_by_its_own_maps_and_its_classes_are_merged_by_the_largest(copy: Path, plant: Plant) -> None:
    place = copy.parent / "objectnet-1.0"
    write_maps(place / "mappings")
    plant(place, [f"images/{name}/a{i}.png" for name in ("sunglasses", "banana", "air_freshener") for i in (1, 2)])
    split = ENTRY().read_report("test")["objectnet"]
    assert sorted(r.key for r in split.records) == [
        "banana/a1.png",
        "banana/a2.png",
        "sunglasses/a1.png",
        "sunglasses/a2.png",
    ]
    assert {(r.path.parent.name, r.label) for r in split.records} == {("banana", 954), ("sunglasses", 836)}
    assert set(split.among) == {(954,), SUNGLASSES}
    logits_NC = torch.zeros(4, 1000)
    logits_NC[:, 0] = 9  # a class that ObjectNet has not is no answer
    logits_NC[:, 954] = 1
    logits_NC[2:, 837] = 2  # the second of two names
    said = of_split(logits_NC, split)
    assert said.logits_NC.argmax(1).tolist() == [954, 954, 836, 836]
    assert np.isneginf(said.logits_NC[:, 0]).all()


def test_what_is_not_whole_is_refused_with_the_difference(copy: Path, plant: Plant) -> None:
    with pytest.raises(
        DataError, match=r"train has 1,700 pictures instead of 1,271,167.*id has 1,000 .* 50,000"
    ) as caught:
        DATASETS["imagenet"]()
    assert caught.value.code == "D17"
    with pytest.raises(DataError, match="are not the published list in order"):
        replace(ENTRY, classes="0123456789abcdef")()
    plant(copy.parent / "objectnet-1.0", ["images/banana/a.png"])
    with pytest.raises(DataError, match=r"objectnet_to_imagenet_1k\.json"):
        ENTRY()
    (copy / "train" / IDS[3]).rename(copy / "gone")
    with pytest.raises(DataError, match=rf"{IDS[3]} is not there"):
        ENTRY()


def test_a_split_of_a_subset_says_so_with_its_labels(copy: Path) -> None:
    data = ENTRY()
    strange = Split("r", "report", data.train.records[:3], among=((5,),))
    with pytest.raises(DataError, match="stand for a class"):
        replace(data, report=[strange])
