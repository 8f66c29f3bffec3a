"""VTAB-1k from made-up lists: nineteen tasks, names in the order of their labels, and lists that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from likewise.data.prompts import fill
from likewise.data.records import Dataset
from likewise.datasets import vtab
from likewise.datasets.named import order_of
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
ENTRIES = {entry.name: entry for entry in vtab.ENTRIES}
PUBLISHED = {
    "vtab-cifar-100": (100, "ed7a207d3b0d05dc"),  # cifar-100-binary's fine_label_names.txt
    "vtab-caltech-101": (102, "3e9f4a83ba113154"),  # caltech101_vtab in LAION-AI/CLIP_benchmark
    "vtab-dtd": (47, "830b9f149466303e"),  # openai/CLIP, data/prompts.md
    "vtab-flowers-102": (102, "fcf4c7b959cc4adc"),  # the same
    "vtab-pets": (37, "b3f65f1ed9bfca82"),  # tensorflow/datasets, oxford_iiit_pet.py
    "vtab-svhn": (10, "47538d1023947674"),
    "vtab-sun397": (397, "a37e3bd6e5ec6382"),  # tensorflow/datasets, sun397_labels.txt
    "vtab-pcam": (2, "99903509a82fd73f"),  # openai/CLIP
    "vtab-eurosat": (10, "95a875a9a8093ab0"),  # openai/CLIP's names in the order of tensorflow/datasets, eurosat.py
    "vtab-resisc45": (45, "a040a94ab0f85b1b"),  # openai/CLIP, and tensorflow/datasets, resisc45.py
    "vtab-kitti": (4, "f076fd9bcead7763"),  # openai/CLIP
}
"""How many names, and the fingerprint of the list where it was published."""
OURS = {
    "vtab-retinopathy": 5, "vtab-clevr-count": 8, "vtab-clevr-distance": 6, "vtab-dmlab": 6,
    "vtab-dsprites-location": 16, "vtab-dsprites-orientation": 16, "vtab-smallnorb-azimuth": 18,
    "vtab-smallnorb-elevation": 9,
}  # fmt: skip


@pytest.fixture
def copy(root: Path, plant: Plant) -> Callable[[str, int], Path]:
    """A task's folder: four pictures to train on, two to select on and three to report, labels from the last down."""

    def go(task: str, labels: int) -> Path:
        place = root / "vtab-1k" / task
        for list_, n in (("train800", 4), ("val200", 2), ("test", 3)):
            files = [f"images/{list_}/{i:06d}.jpg" for i in range(n)]
            plant(place, files)
            text = "".join(f"{file} {max(0, labels - 1 - i)}\n" for i, file in enumerate(files))
            (place / f"{list_}.txt").write_text(text)
        return place

    return go


def small(name: str) -> Dataset:
    return replace(ENTRIES[name], counts={})()


def test_nineteen_tasks_in_three_groups() -> None:
    assert len(ENTRIES) == 19
    assert [len(group) for group in (vtab.NATURAL, vtab.SPECIALIZED, vtab.STRUCTURED)] == [7, 4, 8]
    assert set(ENTRIES) == set(PUBLISHED) | set(OURS)
    for entry in ENTRIES.values():
        assert (entry.counts["train"], entry.counts["select"]) == (800, 200)
        assert ("No classes" in entry.notes) == (entry.name in vtab.STRUCTURED)
    assert sum(entry.counts["id"] for entry in ENTRIES.values()) == 387_904  # of VPT's Table 7


@pytest.mark.parametrize("name", ENTRIES)
def test_labels_have_the_published_names(name: str, copy: Callable[[str, int], Path]) -> None:
    entry = ENTRIES[name]
    place = copy(entry.folders[0].split("/")[1], PUBLISHED[name][0] if name in PUBLISHED else OURS[name])
    data = small(name)
    assert entry.found() == place
    count, order = PUBLISHED.get(name, (OURS.get(name), order_of(data.classes.names)))
    assert len(set(data.classes.names)) == len(data.classes) == count
    assert order_of(data.classes.names) == order == entry.classes
    (identity,) = data.read_report("test").values()
    assert (len(data.train), len(data.select), len(identity)) == (4, 2, 3)
    assert data.train.labels_N.tolist() == [max(0, count - 1 - i) for i in range(4)]
    assert data.train.records[0].path == place / "images" / "train800" / "000000.jpg"
    assert identity.open(2).size == (4, 4)
    assert all("{" not in prompt for own in fill(data.templates, data.classes.names) for prompt in own)


def test_words_for_what_is_no_class() -> None:
    prompts = {name: fill(task[3], task[2]) for name, task in vtab.STRUCTURED.items()}
    assert prompts["vtab-clevr-count"][0] == ["a photo of 3 objects."]
    assert prompts["vtab-clevr-count"][7] == ["a photo of 10 objects."]
    assert prompts["vtab-smallnorb-azimuth"][17] == ["azimuth 340 degrees"]
    assert prompts["vtab-smallnorb-elevation"][8] == ["elevation 70 degrees"]
    place = vtab.SUN.index("jail indoor")
    assert vtab.SUN[place - 1 : place + 2] == ("jacuzzi indoor", "jail indoor", "jail cell")  # not CLIP's order


def test_wrong_lists_are_refused(copy: Callable[[str, int], Path]) -> None:
    place = copy("kitti", 4)
    with pytest.raises(DataError, match=r"train has 4 pictures instead of 800.*id has 3 pictures instead of 711"):
        ENTRIES["vtab-kitti"]()
    (place / "test.txt").write_text("images/test/000000.jpg 4\n")
    with pytest.raises(DataError, match=r"test\.txt has the label 4; vtab-kitti has 0 to 3"):
        small("vtab-kitti")
    for line in ("images/test/000000.jpg", "images/test/000000.jpg -1", "images/test/000000.jpg a"):
        (place / "test.txt").write_text(f"images/test/000001.jpg 0\n{line}\n")
        with pytest.raises(DataError, match="which is no path and label"):
            small("vtab-kitti")
    (place / "test.txt").write_text("images/test/000009.jpg 1\n")
    with pytest.raises(DataError, match=r"1 of 1 pictures that the dataset lists are not there.*000009"):
        small("vtab-kitti")
    (place / "val200.txt").unlink()
    assert ENTRIES["vtab-kitti"].found() is None
    with pytest.raises(DataError, match="ZhangYuanhan-AI/NOAH"):
        ENTRIES["vtab-kitti"]()
