"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 (Xiao et al. 2017, arXiv:1708.07747; MIT licence).

Train 55,000 and select 5,000 of the 60,000 training pictures, drawn by key; in-distribution report the 10,000 test
pictures.
"""

from __future__ import annotations

from likewise.datasets import idx
from likewise.datasets.named import Named

NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TEMPLATES = ("{}", "a picture of a {}", "a piece of clothing, {}", "a grey photo of a {}")

ENTRIES = (
    Named(
        "fashion-mnist",
        "Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28.",
        idx.reader("fashion-mnist", NAMES, TEMPLATES),
        folders=("fashion-mnist", "FashionMNIST/raw"),
        needs=idx.NEEDS,
        get="apt install dataset-fashion-mnist, or torchvision.datasets.FashionMNIST('data', download=True)",
        licence="MIT",
        paper="Xiao et al. 2017, arXiv:1708.07747",
        counts={"train": 55_000, "select": 5_000, "id": 10_000},
        notes="Methods choose on 5,000 of the 60,000 training pictures, drawn by key.",
    ),
)
