"""FLYP's transfer sets from made-up copies: its split of the cars, its class orders, the order trap of the flowers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from sklearn.model_selection import train_test_split
from torchvision.datasets import RenderedSST2, StanfordCars

from likewise.datasets import caltech, cars, flowers, rendered_sst2
from likewise.datasets.named import order_of
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
PUBLISHED = json.loads((Path(__file__).parent / "published_classes.json").read_text())
FULL = {entry.name: entry for family in (caltech, cars, flowers, rendered_sst2) for entry in family.ENTRIES}
SMALL = {entry.name: replace(entry, counts={}) for entry in FULL.values()}
OFFICIAL = [" ".join([*name.split(" ")[1:], name.split(" ")[0]]) for name in PUBLISHED["stanford-cars"]]
"""The devkit's names in its order: CoOp's have the year in front."""


def touch(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# -- Caltech-101 -----------------------------------------------------------------------------------------------


def test_caltech_names_go_with_the_sorted_folders(root: Path) -> None:
    folders = [caltech.OTHERWISE.get(name, name.replace(" ", "_")) for name in caltech.NAMES]
    coop = {"face": "Faces", "leopard": "Leopards", "motorbike": "Motorbikes", "airplane": "airplanes"}
    theirs = [coop.get(name, name) for name in PUBLISHED["coop-caltech-101"]]
    assert folders == sorted([*theirs, "Faces_easy"])  # as FLYP's ImageFolder has them
    for number, part in enumerate(("train", "val", "test")):
        touch(root / "caltech-101" / part, [f"{name}/image_{number:04d}.jpg" for name in folders])
    touch(root / "caltech-101" / "train", ["BACKGROUND_Google/image_0001.jpg"])
    data = FULL["flyp-caltech-101"]()  # counts cannot be checked
    report = data.read_report("test")
    for split, part in ((data.train, "train"), (data.select, "val"), (report["id"], "test")):
        assert [(r.path.parent.name, r.label) for r in split.records] == [(f, i) for i, f in enumerate(folders)]
        assert all(r.path.parent.parent.name == part for r in split.records)
    assert data.classes.folders[:2] == ("Faces", "Faces_easy")
    assert data.classes.names[:2] == ("off-center face", "centered face")
    assert len(set(data.templates)) == 34
    assert data.templates[0] == "a photo of a {}."
    assert data.templates[33] == "a doodle of the {}."
    (root / "caltech-101" / "val" / "wrench" / "image_0001.jpg").unlink()
    (root / "caltech-101" / "val" / "wrench").rmdir()
    with pytest.raises(DataError, match="val/wrench is not there"):
        SMALL["flyp-caltech-101"]()


# -- Stanford Cars ---------------------------------------------------------------------------------------------


def write_mat(path: Path, images: Iterable[str], labels: Iterable[int]) -> None:
    """Annotations as the devkit has them: a row of structures with a box, a class from 1, and a file."""
    kinds = [("bbox_x1", object), ("class", object), ("fname", object)]
    rows = np.array([(1, label + 1, name) for name, label in zip(images, labels, strict=True)], dtype=kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": rows[None]})


@pytest.fixture
def car_folder(root: Path) -> Path:
    place = root / "stanford_cars"
    rng = np.random.default_rng(0)
    train, test = rng.permutation(392) % 196, rng.permutation(196)
    write_mat(place / "devkit" / "cars_train_annos.mat", [f"{i:05d}.jpg" for i in range(1, 393)], train)
    write_mat(place / "cars_test_annos_withlabels.mat", [f"{i:05d}.jpg" for i in range(1, 197)], test)
    savemat(place / "devkit" / "cars_meta.mat", {"class_names": np.array(OFFICIAL, dtype=object)[None]})
    touch(place / "cars_train", [f"{i:05d}.jpg" for i in range(1, 393)])
    touch(place / "cars_test", [f"{i:05d}.jpg" for i in range(1, 197)])
    return place


def test_cars_are_split_as_flyp_splits_them_under_its_class_order(root: Path, car_folder: Path) -> None:
    data = SMALL["flyp-cars"]()
    assert data.classes.names == tuple(PUBLISHED["flyp-cars"])
    report = data.read_report("test")
    assert [len(s) for s in (data.train, data.select, report["id"])] == [313, 79, 196]
    theirs = StanfordCars(root, split="train")  # the official labels, by another reader
    files, labels = [path for path, _ in theirs._samples], [label for _, label in theirs._samples]
    train, select, y_train, y_select = train_test_split(files, labels, test_size=0.2, random_state=10)
    for split, paths, official in ((data.train, train, y_train), (data.select, select, y_select)):
        assert [str(r.path) for r in split.records] == paths
        names = [theirs.classes[label].replace("/", "-") for label in official]
        assert [data.classes.names[r.label] for r in split.records] == names
    told = {str(r.path): data.classes.names[r.label] for r in report["id"].records}
    assert told == {
        path: theirs.classes[label].replace("/", "-") for path, label in StanfordCars(root, split="test")._samples
    }


def test_the_fifth_of_all_is_of_the_published_size() -> None:
    kept, drawn = cars.fifth(8_144)
    mine, theirs = train_test_split(list(range(8_144)), test_size=0.2, random_state=10)
    assert (kept, drawn) == (mine, theirs)
    assert {"train": len(kept), "select": len(drawn), "id": 8_041} == FULL["flyp-cars"].counts


def test_cars_that_are_not_whole_are_refused(car_folder: Path) -> None:
    with pytest.raises(DataError, match="train has 313 pictures instead of 6,515"):
        FULL["flyp-cars"]()
    (car_folder / "cars_train" / "00007.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 392 pictures.*00007.jpg"):
        SMALL["flyp-cars"]()
    (car_folder / "cars_train" / "00007.jpg").touch()
    (car_folder / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match="The test annotations in devkit/ have no labels"):
        SMALL["flyp-cars"]()
    (car_folder / "devkit" / "cars_train_annos.mat").write_bytes(b"not MATLAB" * 20)
    with pytest.raises(DataError, match=r"cars_train_annos.mat cannot be read for «annotations»"):
        SMALL["flyp-cars"]()
    (car_folder / "devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(DataError, match=r"cars_train_annos.mat is not there"):
        SMALL["flyp-cars"]()


# -- Flowers 102 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "pictures"), [("flowers-102", "jpg"), ("flowers102", "all_images")])
def test_flowers_are_by_the_official_labels_not_by_the_alphabet(root: Path, folder: str, pictures: str) -> None:
    place = root / folder
    rng = np.random.default_rng(1)
    labels_N, ids_N = rng.permutation(408) % 102 + 1, rng.permutation(408) + 1
    touch(place / pictures, [f"image_{i:05d}.jpg" for i in range(1, 409)])
    savemat(place / "imagelabels.mat", {"labels": labels_N[None].astype(np.uint8)})
    parts = {"trnid": ids_N[:102], "valid": ids_N[102:204], "tstid": ids_N[204:]}
    savemat(place / "setid.mat", {name: ids[None].astype(np.uint16) for name, ids in parts.items()})
    data = SMALL["flowers-102"]()
    report = data.read_report("test")
    alphabet = PUBLISHED["flyp-flowers"]
    assert sorted(flowers.NAMES) == alphabet  # FLYP's list and labels
    for split, ids in ((data.train, "trnid"), (data.select, "valid"), (report["id"], "tstid")):
        assert [r.path.name for r in split.records] == [f"image_{i:05d}.jpg" for i in parts[ids]]
        official = [int(labels_N[i - 1]) for i in parts[ids]]
        assert split.labels_N.tolist() == [label - 1 for label in official]
        told = [data.classes.names[r.label] for r in split.records]
        assert told == [flowers.NAMES[label - 1] for label in official]
        assert told != [alphabet[r.label] for r in split.records]
    differ = [(ours, theirs) for ours, theirs in zip(flowers.NAMES, PUBLISHED["coop-flowers-102"]) if ours != theirs]
    assert differ == [
        ("globe flower", "globe-flower"),
        ("pink and yellow dahlia", "pink-yellow dahlia"),
        ("air plant", "ball moss"),
    ]
    with pytest.raises(DataError, match="id has 204 pictures instead of 6,149"):
        FULL["flowers-102"]()
    savemat(place / "imagelabels.mat", {"labels": labels_N[None] - 1})
    with pytest.raises(DataError, match="labels outside 1 to 102"):
        SMALL["flowers-102"]()


# -- Rendered SST2 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "middle"), [("rendered-sst2", "valid"), ("sst2", "val")])
def test_reviews_in_either_layout(root: Path, plant: Plant, folder: str, middle: str) -> None:
    for part, n in (("train", 3), (middle, 2), ("test", 4)):
        plant(root / folder / part, [f"{side}/{i}.png" for side in ("positive", "negative") for i in range(n)])
    data = SMALL["rendered-sst2"]()
    report = data.read_report("test")
    assert data.classes.names == ("negative", "positive")
    assert [len(s) for s in (data.train, data.select, report["id"])] == [6, 4, 8]
    if folder == "rendered-sst2":
        for split, part in ((data.train, "train"), (data.select, "val"), (report["id"], "test")):
            theirs = RenderedSST2(root, split=part)
            assert sorted((str(r.path), r.label) for r in split.records) == sorted(theirs._samples)
    with pytest.raises(DataError, match=r"train has 6 .* of 6,920, select has 4 .* of 872"):
        FULL["rendered-sst2"]()
    (root / folder / middle).rename(root / folder / "validation")
    with pytest.raises(DataError, match="has no folder valid or val"):
        SMALL["rendered-sst2"]()


def test_the_hashes_are_of_the_published_lists() -> None:
    assert FULL["flyp-cars"].classes == order_of(PUBLISHED["flyp-cars"])
