"""Data for few-shot episodes: miniImageNet and CUB-200-2011, each in base classes to train on and novel ones.

A head knows no classes but those that it is trained on, so base, validation and novel classes are datasets of their
own: a run on the base classes, then episodes on the features of the novel ones' `id`, as kim-tables-2-4 asks them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from likewise.data.records import Dataset, Record, Split
from likewise.datasets.imagenet import synsets
from likewise.datasets.listed import lines, listed
from likewise.datasets.named import Named, carved, made
from likewise.errors import DataError, some

BIRDS = ("a photo of a {}, a type of bird.",)
"""OpenAI's for Birdsnap; none are published for CUB."""
TAKES: dict[str, Callable[[int], bool]] = {
    "base": lambda i: i % 2 == 0,
    "validation": lambda i: i % 4 == 1,
    "novel": lambda i: i % 4 == 3,
}
"""Which of CUB's 200 classes, counted from 0: 100, 50 and 50 (Chen et al. 2019, arXiv:1904.04232, in their code)."""


def _base(records: Sequence[Record], held: int, word: str) -> tuple[Split, ...]:
    """Train, select and `id`, of which the last two are drawn by key from all pictures of the base classes."""
    rest, identity = carved(records, held, f"{word} id")
    train, select = carved(rest, held, word)
    return (
        Split("train", "train", tuple(train)), Split("select", "select", tuple(select)),
        Split("id", "report", tuple(identity)),
    )  # fmt: skip


def _mini(part: str, folder: Path) -> Dataset:
    """The classes of one of the three lists, in the order of their WordNet ids, under OpenAI's names for them."""
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    with open(folder / f"{part}.csv", newline="", encoding="utf-8") as file:
        rows = [(row["filename"].strip(), row["label"].strip()) for row in csv.DictReader(file, skipinitialspace=True)]
    ids = sorted({wnid for _, wnid in rows})
    if strange := sorted(set(ids) - set(synsets())):
        raise DataError("D17", f"{folder / part}.csv names {some(strange)}, which are no classes of ImageNet.")
    label = {wnid: i for i, wnid in enumerate(ids)}
    records = listed(folder / "images", ((name, label[wnid]) for name, wnid in rows))
    splits = _base(records, 3_200, "mini-imagenet") if part == "train" else (Split("id", "report", records),)
    names = [IMAGENET_CLASSNAMES[synsets().index(wnid)] for wnid in ids]
    name = {"train": "mini-imagenet", "val": "mini-imagenet-validation", "test": "mini-imagenet-novel"}[part]
    return made(name, names, splits, [template("{}") for template in OPENAI_IMAGENET_TEMPLATES], ids)


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


def _cub(folder: Path) -> Dataset:
    """All 200 classes by the official split, 600 of whose training pictures are drawn by key to select on."""
    folders, records, sides = _birds(folder)
    train, select = carved([r for n, r in records.items() if sides[n] == "1"], 600, "cub")
    test = [r for n, r in records.items() if sides[n] == "0"]
    splits = [
        Split("train", "train", tuple(train)), Split("select", "select", tuple(select)),
        Split("id", "report", tuple(test)),
    ]  # fmt: skip
    return made("cub", [_called(name) for name in folders], splits, BIRDS, folders)


def _cub_part(part: str, folder: Path) -> Dataset:
    """All pictures of a part of the classes, numbered anew in their order."""
    folders, records, _ = _birds(folder)
    label = {old: new for new, old in enumerate(filter(TAKES[part], range(len(folders))))}
    own = [Record(r.key, label[r.label], r.path) for r in records.values() if r.label in label]
    splits = _base(own, 500, "cub-base") if part == "base" else (Split("id", "report", tuple(own)),)
    kept = [folders[old] for old in label]
    return made(f"cub-{part}", [_called(name) for name in kept], splits, BIRDS, kept)


MINI = ("mini-imagenet", "miniImagenet", "miniImageNet", "miniimagenet", "mini_imagenet")
MINI_GET = (
    "the splits train.csv, val.csv and test.csv of github.com/twitter-research/meta-learning-lstm (data/miniImagenet) "
    "beside a folder images/ with the pictures that they name, made from ImageNet's training set"
)
MINI_PAPER = "Vinyals et al. 2016, arXiv:1606.04080; splits of Ravi and Larochelle, ICLR 2017"
CUBS = ("CUB_200_2011", "cub/CUB_200_2011", "CUB_200_2011/CUB_200_2011", "cub200/CUB_200_2011")
CUB_NEEDS = ("images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt", "images")
CUB_GET = "CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158"
CUB_PAPER = "Wah et al. 2011, The Caltech-UCSD Birds-200-2011 dataset, CNS-TR-2011-001"
WHOLE = "For episodes (`likewise.episodes`, the suite kim-tables-2-4). It has nothing to train or to select on. "


def _mini_entry(name: str, title: str, part: str, counts: dict[str, int], classes: str, notes: str) -> Named:
    return Named(
        name, title, partial(_mini, part), MINI, (f"{part}.csv", "images"), MINI_GET, "ImageNet's terms of access",
        MINI_PAPER, counts, classes, notes,
    )  # fmt: skip


def _cub_entry(
    name: str, title: str, read: Callable[[Path], Dataset], counts: dict[str, int], classes: str, notes: str
) -> Named:
    return Named(
        name, title, read, CUBS, CUB_NEEDS, CUB_GET, "for research and teaching, not for trade", CUB_PAPER, counts,
        classes, f"{notes} Some of its pictures are ImageNet's too. Names are as published, with their slips (Artic "
        "Tern); the template is OpenAI's for Birdsnap.",
    )  # fmt: skip


ENTRIES = (
    _mini_entry(
        "mini-imagenet", "miniImageNet: the 64 base classes, 600 pictures each.", "train",
        {"train": 32_000, "select": 3_200, "id": 3_200}, "8c3ea5f6321db627",
        "A twelfth each is drawn by key to select on and to report; what Kim et al. hold back we do not know. "
        "A model pretrained on labelled ImageNet has seen the novel classes too.",
    ),
    _mini_entry(
        "mini-imagenet-validation", "miniImageNet: the 16 validation classes.", "val", {"id": 9_600},
        "0e8e3c99f246c3e6", f"{WHOLE}Papers choose on these classes and report the novel ones.",
    ),
    _mini_entry(
        "mini-imagenet-novel", "miniImageNet: the 20 novel classes.", "test", {"id": 12_000}, "7b6bdaea09287490",
        f"{WHOLE}Kim et al.'s Table 3: 5 ways, 1 and 5 shots, 600 episodes.",
    ),
    _cub_entry(
        "cub", "CUB-200-2011: 200 species of birds, by the official split.", _cub,
        {"train": 5_394, "select": 600, "id": 5_794},
        "ecd0a4e348584003", "Methods choose on 600 of the 5,994 training pictures, drawn by key.",
    ),
    _cub_entry(
        "cub-base", "CUB-200-2011: 100 base classes, all of their pictures.", partial(_cub_part, "base"),
        {"train": 4_885, "select": 500, "id": 500},
        "1b080f33e97b20b1",
        "Every second class (Chen et al. 2019); 500 pictures each are drawn by key to select on and to report.",
    ),
    _cub_entry(
        "cub-validation", "CUB-200-2011: 50 validation classes.", partial(_cub_part, "validation"), {},
        "2483df7ac159a4ee", f"{WHOLE}Counts not verified.",
    ),
    _cub_entry(
        "cub-novel", "CUB-200-2011: 50 novel classes.", partial(_cub_part, "novel"), {},
        "867e4c47d78a87b5", f"{WHOLE}For Kim et al.'s Table 4, who may have other classes: these are Chen et al.'s "
        "(2019). Counts not verified.",
    ),
)  # fmt: skip
