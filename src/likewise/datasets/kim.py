"""The data of Kim et al. (OpenReview EhwEUb2ynIa, 2021): MNIST, and which of the other datasets here they used.

Their sizes are in their Table 5, which we have not read but for EuroSAT's (15,000, 2,000 and 10,000 pictures).
"""

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets import idx
from likewise.datasets.made import dataset_of, table_of
from likewise.datasets.named import Named

DISTANT = ("mnist", "eurosat", "dtd", "fmow", "iwildcam")
"""Where their CLIP, ViT-B/16, was right in less than 55 % without training (MNIST: in just 55 %, and counted here)."""
SIMILAR = ("cifar-10", "cifar-100", "flowers-102", "camelyon17", "food-101")
FEW_ONLY = ("dtd", "flowers-102")
"""Too small for their high-data half, which has 256 and 512 pictures a class (CIFAR-100: 256 and 450)."""
EPISODES = {"mini-imagenet": "mini-imagenet-novel", "cub-base": "cub-novel"}
"""Their Tables 3 and 4: trained on the one, 600 episodes (`likewise.episodes`) of the other."""

NAMES = tuple(map(str, range(10)))
TEMPLATES = ('a photo of the number: "{}".',)


def read(folder: Path) -> Dataset:
    """The dataset of the four files in a folder."""
    path = table_of("mnist", idx.source(folder), lambda: idx.parts(folder, "mnist"))
    return dataset_of("mnist", path, NAMES, TEMPLATES)


ENTRIES = (
    Named(
        "mnist",
        "MNIST: 70,000 handwritten digits, 28 x 28, light on black.",
        read,
        folders=("mnist", "MNIST/raw"),
        needs=idx.NEEDS,
        get="torchvision.datasets.MNIST('data', download=True)",
        licence="CC BY-SA 3.0, as Keras's documentation has it; its own page names none",
        paper="LeCun et al. 1998, Gradient-based learning applied to document recognition, Proceedings of the IEEE",
        counts={"train": 55_000, "select": 5_000, "id": 10_000},
        classes="47538d1023947674",
        notes="Methods choose on 5,000 of the 60,000 training pictures, drawn by key; how many Kim et al. held back we "
        "have not verified. Names and template are OpenAI's for CLIP, digits as figures.",
    ),
)
