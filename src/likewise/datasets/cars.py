"""Stanford Cars as FLYP splits it (Goyal et al. 2023, arXiv:2212.00638); CoOp's split is stanford-cars.

Templates are OpenAI's for CLIP (Radford et al. 2021, arXiv:2103.00020).
"""

# N pictures.

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from likewise.data.records import Dataset
from likewise.datasets.listed import listed, mat
from likewise.datasets.named import Named, made, three
from likewise.errors import DataError

TEMPLATES = (
    "a photo of a {}.", "a photo of the {}.", "a photo of my {}.", "i love my {}!", "a photo of my dirty {}.",
    "a photo of my clean {}.", "a photo of my new {}.", "a photo of my old {}.",
)  # fmt: skip


def read(folder: Path) -> Dataset:
    """The official training and test pictures; selected on is the fifth of the former that FLYP draws."""
    official = [str(name).replace("/", "-") for name in mat(folder / "devkit" / "cars_meta.mat", "class_names")]
    names = sorted(official, key=lambda name: name.replace(" ", "_"))  # the order of FLYP's class folders
    label_of = [names.index(name) for name in official]

    def items(path: Path) -> list[tuple[str, int]]:
        found = mat(path, "annotations")
        return [(str(f), label_of[int(y) - 1]) for f, y in zip(found["fname"], found["class"], strict=True)]

    train = listed(folder / "cars_train", items(folder / "devkit" / "cars_train_annos.mat"))
    labelled = folder / "cars_test_annos_withlabels.mat"
    if not labelled.is_file():
        raise DataError(
            "D17", f"{labelled} is not there. The test annotations in devkit/ have no labels; put this file, which "
            "came later, beside cars_test/."
        )  # fmt: skip
    test = listed(folder / "cars_test", items(labelled))
    kept, select = fifth(len(train))
    splits = three((train[i] for i in kept), (train[i] for i in select), test)
    return made("flyp-cars", names, splits, TEMPLATES)


def fifth(n: int, seed: int = 10) -> tuple[list[int], list[int]]:
    """What scikit-learn's `train_test_split(test_size=0.2, random_state=10)`, by which FLYP splits, keeps and draws."""
    order_N = np.random.RandomState(seed).permutation(n)  # its own generator, as old as FLYP's
    count = math.ceil(0.2 * n)
    return order_N[count:].tolist(), order_N[:count].tolist()


ENTRIES = (
    Named(
        "flyp-cars",
        "Stanford Cars as FLYP has it: 196 models; selected on is a fifth of the training set, reported the test.",
        read,
        folders=("StanfordCars", "stanford_cars"),
        needs=("devkit/cars_meta.mat",),
        get="cars_train, cars_test, devkit and cars_test_annos_withlabels.mat of Stanford Cars, beside each other (its "
        "own page is gone; DATASETS.md of github.com/linzhiqiu/cross_modal_adaptation has a copy)",
        licence="not verified; its own page is gone",
        paper="Krause et al. 2013, 3D object representations for fine-grained categorization, ICCV workshop; split: "
        "Goyal et al. 2023, arXiv:2212.00638",
        counts={"train": 6_515, "select": 1_629, "id": 8_041},
        classes="9f278fdd7d99b390",
        notes="The fifth is the very one that FLYP draws (scikit-learn, random_state 10). Labels are in the order of "
        "FLYP's class folders, not of the devkit; names have - for / (Ram C-V). CoOp's split is stanford-cars.",
    ),
)
