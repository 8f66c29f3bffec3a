"""miniImageNet: base classes to train on, validation and novel ones for few-shot episodes.

A head knows no classes but those that it is trained on, so base, validation and novel classes are datasets of their
own: a run on the base classes, then episodes on the features of the novel ones' `id`, as kim-tables-2-4 asks them.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from likewise.data.records import Dataset, Split
from likewise.datasets.imagenet import TERMS, synsets, templates
from likewise.datasets.listed import listed
from likewise.datasets.named import EPISODES, Named, held_back, made
from likewise.errors import DataError, some


def read(part: str, folder: Path) -> Dataset:
    """The classes of one of the three lists, in the order of their WordNet ids, under OpenAI's names for them."""
    from open_clip import IMAGENET_CLASSNAMES

    with open(folder / f"{part}.csv", newline="", encoding="utf-8") as file:
        rows = [(row["filename"].strip(), row["label"].strip()) for row in csv.DictReader(file, skipinitialspace=True)]
    ids = sorted({wnid for _, wnid in rows})
    if strange := sorted(set(ids) - set(synsets())):
        raise DataError("D17", f"{folder / part}.csv names {some(strange)}, which are no classes of ImageNet.")
    label = {wnid: i for i, wnid in enumerate(ids)}
    records = listed(folder / "images", ((name, label[wnid]) for name, wnid in rows))
    splits = held_back(records, 3_200, "mini-imagenet") if part == "train" else [Split("id", "report", records)]
    names = [IMAGENET_CLASSNAMES[synsets().index(wnid)] for wnid in ids]
    name = {"train": "mini-imagenet", "val": "mini-imagenet-validation", "test": "mini-imagenet-novel"}[part]
    return made(name, names, splits, templates(), ids)


def _entry(name: str, title: str, part: str, counts: dict[str, int], classes: str, notes: str) -> Named:
    return Named(
        name,
        title,
        partial(read, part),
        folders=("mini-imagenet", "miniImagenet", "miniImageNet", "miniimagenet", "mini_imagenet"),
        needs=(f"{part}.csv", "images"),
        get="the splits train.csv, val.csv and test.csv of github.com/twitter-research/meta-learning-lstm "
        "(data/miniImagenet) beside a folder images/ with the pictures that they name, made from ImageNet's training "
        "set",
        licence=TERMS,
        paper="Vinyals et al. 2016, arXiv:1606.04080; splits of Ravi and Larochelle, ICLR 2017",
        counts=counts,
        classes=classes,
        notes=notes,
    )


ENTRIES = (
    _entry(
        "mini-imagenet",
        "miniImageNet: the 64 base classes, 600 pictures each.",
        "train",
        {"train": 32_000, "select": 3_200, "id": 3_200},
        "8c3ea5f6321db627",
        "A twelfth each is drawn by key to select on and to report; what Kim et al. hold back we do not know. "
        "A model pretrained on labelled ImageNet has seen the novel classes too.",
    ),
    _entry(
        "mini-imagenet-validation",
        "miniImageNet: the 16 validation classes.",
        "val",
        {"id": 9_600},
        "0e8e3c99f246c3e6",
        f"{EPISODES} Papers choose on these classes and report the novel ones.",
    ),
    _entry(
        "mini-imagenet-novel",
        "miniImageNet: the 20 novel classes.",
        "test",
        {"id": 12_000},
        "7b6bdaea09287490",
        f"{EPISODES} Kim et al.'s Table 3: 5 ways, 1 and 5 shots, 600 episodes.",
    ),
)
