"""CUB-200-2011: 200 species of birds, whole, and in base, validation and novel classes for few-shot episodes.

A head knows no classes but those that it is trained on, so base, validation and novel classes are datasets of their
own: a run on the base classes, then episodes on the features of the novel ones' `id`, as kim-tables-2-4 asks them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from likewise.data.records import Dataset, Record, Split
from likewise.datasets.listed import lines, listed
from likewise.datasets.named import EPISODES, Named, carved, held_back, made, three
from likewise.errors import DataError

TEMPLATES = ("a photo of a {}, a type of bird.",)
"""OpenAI's for Birdsnap; none are published for CUB."""
TAKES: dict[str, Callable[[int], bool]] = {
    "base": lambda i: i % 2 == 0,
    "validation": lambda i: i % 4 == 1,
    "novel": lambda i: i % 4 == 3,
}
"""Which of CUB's 200 classes, counted from 0: 100, 50 and 50 (Chen et al. 2019, arXiv:1904.04232, in their code)."""


def _table(path: Path) -> dict[str, str]:
    """`1 words` lines: what stands behind each number."""
    return dict(line.split(maxsplit=1) for line in lines(path))


def _birds(folder: Path) -> tuple[list[str], dict[str, Record], dict[str, str]]:
    """Class folders in the order of their numbers, every picture by its number, and what the official split says."""
    classes = {int(number): called for number, called in _table(folder / "classes.txt").items()}
    if sorted(classes) != list(range(1, 201)):
        raise DataError("D17", f"{folder}/classes.txt numbers {len(classes)} classes; 1 to 200 are published.")
    labels, sides = _table(folder / "image_class_labels.txt"), _table(folder / "train_test_split.txt")
    items: list[tuple[str, int]] = []
    pictures = _table(folder / "images.txt")
    for number, name in pictures.items():
        label = int(labels[number])
        if name.partition("/")[0] != classes[label]:
            raise DataError("D17", f"{folder}: picture {number} is {name}, and its label says {classes[label]}.")
        items.append((name, label - 1))
    records = dict(zip(pictures, listed(folder / "images", items), strict=True))
    return [classes[i] for i in range(1, 201)], records, sides


def _called(folder: str) -> str:
    """`001.Black_footed_Albatross` in words."""
    return folder.partition(".")[2].replace("_", " ")


def whole(folder: Path) -> Dataset:
    """All 200 classes by the official split, 600 of whose training pictures are drawn by key to select on."""
    folders, records, sides = _birds(folder)
    train, test = ([r for number, r in records.items() if sides[number] == side] for side in "10")
    splits = three(*carved(train, 600, "cub"), test)
    return made("cub", [_called(name) for name in folders], splits, TEMPLATES, folders)


def part_of(part: str, folder: Path) -> Dataset:
    """All pictures of a part of the classes, numbered anew in their order."""
    folders, records, _ = _birds(folder)
    label = {old: new for new, old in enumerate(filter(TAKES[part], range(len(folders))))}
    own = [Record(r.key, label[r.label], r.path) for r in records.values() if r.label in label]
    splits = held_back(own, 500, "cub-base") if part == "base" else [Split("id", "report", tuple(own))]
    kept = [folders[old] for old in label]
    return made(f"cub-{part}", [_called(name) for name in kept], splits, TEMPLATES, kept)


def _entry(
    name: str, title: str, read: Callable[[Path], Dataset], counts: dict[str, int], classes: str, notes: str
) -> Named:
    return Named(
        name,
        title,
        read,
        folders=("CUB_200_2011", "cub/CUB_200_2011", "CUB_200_2011/CUB_200_2011", "cub200/CUB_200_2011"),
        needs=("images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt", "images"),
        get="CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158",
        licence="for research and teaching, not for trade",
        paper="Wah et al. 2011, The Caltech-UCSD Birds-200-2011 dataset, CNS-TR-2011-001",
        counts=counts,
        classes=classes,
        notes=f"{notes} Some of its pictures are ImageNet's too. Names are as published, with their slips (Artic "
        "Tern); the template is OpenAI's for Birdsnap.",
    )


ENTRIES = (
    _entry(
        "cub", "CUB-200-2011: 200 species of birds, by the official split.", whole,
        {"train": 5_394, "select": 600, "id": 5_794},
        "ecd0a4e348584003", "Methods choose on 600 of the 5,994 training pictures, drawn by key.",
    ),
    _entry(
        "cub-base", "CUB-200-2011: 100 base classes, all of their pictures.", partial(part_of, "base"),
        {"train": 4_885, "select": 500, "id": 500},
        "1b080f33e97b20b1",
        "Every second class (Chen et al. 2019); 500 pictures each are drawn by key to select on and to report.",
    ),
    _entry(
        "cub-validation", "CUB-200-2011: 50 validation classes.", partial(part_of, "validation"), {},
        "2483df7ac159a4ee", f"{EPISODES} Counts not verified.",
    ),
    _entry(
        "cub-novel", "CUB-200-2011: 50 novel classes.", partial(part_of, "novel"), {},
        "867e4c47d78a87b5", f"{EPISODES} For Kim et al.'s Table 4, who may have other classes: these are Chen et al.'s "
        "(2019). Counts not verified.",
    ),
)  # fmt: skip
