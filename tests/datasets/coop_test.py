"""CoOp's ten datasets from made-up copies in their layouts: splits, labels, published names in order, refusals.

`published_classes.json` has the class names in label order, as the files of github.com/linzhiqiu/cross_modal_adaptation
(indices/, splits/cat_to_name.json) give them, and FLYP's lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from torchvision.datasets import FGVCAircraft

from likewise.data.indices import published
from likewise.datasets.coop import ENTRIES
from likewise.datasets.named import order_of
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
PUBLISHED = json.loads((Path(__file__).parent / "published_classes.json").read_text())
BY_NAME = {entry.name: entry for entry in ENTRIES}
LAYOUT = {
    "coop-caltech-101": ("caltech-101", "101_ObjectCategories", "{name}/image_{n:04d}.jpg", "a photo of a {}."),
    "oxford-pets": ("oxford_pets", "images", "{name}_{n}.jpg", "a photo of a {}, a type of pet."),
    "stanford-cars": ("stanford_cars", ".", "cars_{part}/{n:05d}.jpg", "a photo of a {}."),
    "coop-flowers-102": ("oxford_flowers", "jpg", "image_{n:05d}.jpg", "a photo of a {}, a type of flower."),
    "coop-food-101": ("food-101", "images", "{name}/{n}.jpg", "a photo of {}, a type of food."),
    "sun397": ("sun397", "SUN397", "x/{name}/sun_{n}.jpg", "a photo of a {}."),
    "coop-dtd": ("dtd", "images", "{name}/{name}_{n:04d}.jpg", "{} texture."),
    "coop-eurosat": ("eurosat", "2750", "{name}/{name}_{n}.jpg", "a centered satellite photo of {}."),
    "ucf-101": ("ucf101", "UCF-101-midframes", "{name}/v_{name}_g01_c{n}.jpg", "a photo of a person doing {}."),
}
TOTALS = {
    "coop-caltech-101": 9_144 - 467 - 435, "oxford-pets": 7_349, "stanford-cars": 16_185, "coop-flowers-102": 8_189,
    "coop-food-101": 101_000, "fgvc-aircraft": 10_000, "sun397": 100 * 397, "coop-dtd": 120 * 47,
    "coop-eurosat": 27_000, "ucf-101": 13_320,
}  # fmt: skip
"""What the originals have: of Caltech-101 all but background and Faces_easy, of SUN397 one partition."""

Rows = dict[str, list[list[object]]]


def rows_of(name: str) -> Rows:
    """A split file of one picture of each class in each part; test pictures are listed backwards."""
    _, _, pattern, _ = LAYOUT[name]
    rows: Rows = {}
    for number, part in enumerate(("train", "val", "test")):
        rows[part] = [
            [pattern.format(name=called.replace(" ", ""), n=1000 * number + label, part=part), label, called]
            for label, called in enumerate(PUBLISHED[name])
        ]
    rows["test"].reverse()
    return rows


def write(root: Path, name: str, rows: Rows) -> Path:
    """The copy: empty files, for a dataset opens without opening its pictures."""
    folder, spot, _, _ = LAYOUT[name]
    for part in rows.values():
        for path, _, _ in part:
            (root / folder / spot / str(path)).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / spot / str(path)).touch()
    (root / folder / BY_NAME[name].needs[0]).write_text(json.dumps(rows))
    return root / folder


@pytest.mark.parametrize("name", LAYOUT)
def test_splits_labels_and_published_names(root: Path, name: str) -> None:
    entry = replace(BY_NAME[name], counts={})
    rows = rows_of(name)
    place = write(root, name, rows)
    assert entry.found() == place
    data = entry()
    assert data.classes.names == tuple(called.replace("_", " ") for called in PUBLISHED[name])
    assert data.templates == (LAYOUT[name][3],)
    report = data.read_report("test")
    assert list(report) == ["id"]
    for split, part in ((data.train, "train"), (data.select, "val"), (report["id"], "test")):
        assert [(r.key, r.label) for r in split.records] == [(path, label) for path, label, _ in rows[part]]
        assert all(r.path == place / LAYOUT[name][1] / r.key and r.path.exists() for r in split.records)
        assert split.metric == "accuracy"


def test_counts_and_the_order_of_classes_are_checked(root: Path) -> None:
    rows = rows_of("oxford-pets")
    write(root, "oxford-pets", rows)
    with pytest.raises(DataError, match=r"train has 37 pictures instead of 2,944.*id has 37 pictures instead of 3,669"):
        BY_NAME["oxford-pets"]()
    for part in rows.values():  # the same pictures, two classes exchanged
        for row in part:
            row[1] = {0: 1, 1: 0}.get(int(str(row[1])), row[1])
    write(root, "oxford-pets", rows)
    said = r"not the published list in order: label 0 is «\w+ bulldog», published «abyssinian», label 1 is "
    with pytest.raises(DataError, match=said):
        replace(BY_NAME["oxford-pets"], counts={})()
    for part in rows.values():
        for row in part:
            row[2] = str(row[2]).replace("beagle", "hound")
    write(root, "oxford-pets", rows)
    with pytest.raises(DataError, match="not the published list in order: they begin"):
        replace(BY_NAME["oxford-pets"], counts={})()


def test_counts_add_up_to_the_originals() -> None:
    assert {entry.name: sum(entry.counts.values()) for entry in ENTRIES} == TOTALS
    assert BY_NAME["oxford-pets"].counts["id"] == 3_669
    assert BY_NAME["stanford-cars"].counts["id"] == 8_041


def test_aircraft_is_read_by_its_own_lists_as_torchvision_does(root: Path) -> None:
    entry = replace(BY_NAME["fgvc-aircraft"], counts={})
    names = PUBLISHED["fgvc-aircraft"]
    place = root / "fgvc-aircraft-2013b" / "data"  # torchvision's place; CoOp's is fgvc_aircraft
    (place / "images").mkdir(parents=True)
    (place / "variants.txt").write_text("\n".join(names) + "\n")
    for number, part in enumerate(("train", "val", "test")):
        ids = [f"{1000 * number + label:07d}" for label in reversed(range(100))]
        lines = [f"{i} {names[99 - k]}" for k, i in enumerate(ids)]
        (place / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
        for i in ids:
            (place / "images" / f"{i}.jpg").touch()
    data = entry()
    assert data.classes.names == tuple(names)
    for split, part in ((data.train, "train"), (data.select, "val"), (data.read_report("test")["id"], "test")):
        theirs = FGVCAircraft(root, split=part)
        assert [str(r.path) for r in split.records] == theirs._image_files
        assert split.labels_N.tolist() == theirs._labels
    with pytest.raises(DataError, match="train has 100 pictures instead of 3,334"):
        BY_NAME["fgvc-aircraft"]()
    (place / "images_variant_val.txt").write_text("0001000 Yak-24\n")
    with pytest.raises(DataError, match=r"variants.txt has not: Yak-24. Did you mean Yak-42"):
        entry()


def test_the_same_pictures_in_torchvisions_layout(root: Path, plant: Plant) -> None:
    rows = rows_of("coop-dtd")
    plant(root / "dtd" / "dtd" / "images", [str(path) for part in rows.values() for path, _, _ in part])
    (root / "dtd" / "split_zhou_DescribableTextures.json").write_text(json.dumps(rows))
    data = replace(BY_NAME["coop-dtd"], counts={})()
    assert data.train.records[0].path == root / "dtd" / "dtd" / "images" / "banded" / "banded_0000.jpg"
    assert data.train.open(0).size == (4, 4)


def test_published_few_shot_choices_of_it(root: Path) -> None:
    write(root, "coop-eurosat", rows_of("coop-eurosat"))
    data = replace(BY_NAME["coop-eurosat"], counts={})()
    parts = {
        part: {"data": [{"impath": f"./data/eurosat/2750/{r.key}", "label": r.label, "classname": ""} for r in split]}
        for part, split in (("train", data.train.records[::-1]), ("val", data.select.records))
    }
    (root / "shot_1-seed_3.json").write_text(json.dumps(parts))
    few = published(data, root, shots=1, seed=3)
    assert few.train.records == data.train.records[::-1]
    assert few.select.records == data.select.records


def test_what_is_not_whole_is_refused_with_the_difference(root: Path) -> None:
    entry = replace(BY_NAME["coop-eurosat"], counts={})
    with pytest.raises(DataError, match=r"(?s)coop-eurosat is not here.*split_zhou_EuroSAT.json") as caught:
        entry()
    assert caught.value.code == "D12"
    place = write(root, "coop-eurosat", rows_of("coop-eurosat"))
    file = place / "split_zhou_EuroSAT.json"
    lost = place / "2750" / "Forest" / "Forest_1001.jpg"
    lost.unlink()
    with pytest.raises(DataError, match=r"1 of 10 pictures that the dataset lists are not there.*Forest_1001.jpg"):
        entry()
    lost.touch()
    rows = rows_of("coop-eurosat")
    rows["val"][3][2] = "Motorway"
    file.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"labels have two names \(3: Highway or Road and Motorway\)"):
        entry()
    without = {part: [row for row in some if row[1] != 4] for part, some in rows_of("coop-eurosat").items()}
    file.write_text(json.dumps(without))
    with pytest.raises(DataError, match="no picture has the label 4"):
        entry()
    for other in ({"train": 5}, {"train": [["a.jpg", 0]]}, [], {}):
        file.write_text(json.dumps(other))
        with pytest.raises(DataError, match="is not a split file: its «train»"):
            entry()


def test_the_hashes_are_of_these_lists() -> None:
    hashes = {name: order_of([called.replace("_", " ") for called in PUBLISHED[name]]) for name in BY_NAME}
    assert {entry.name: entry.classes for entry in ENTRIES} == hashes
