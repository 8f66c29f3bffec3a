"""EuroSAT in the sizes that Kim et al. used, since there is no official split; CoOp's own is coop-eurosat."""

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets.named import Named, carved, made, three, tree

SELECT, TEST = 2_000, 10_000
NAMES = {
    "AnnualCrop": "annual crop land", "Forest": "forest", "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road", "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land", "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments", "River": "river", "SeaLake": "lake or sea",
}  # fmt: skip
"""Folders in label order, and OpenAI's names for CLIP (Radford et al. 2021, arXiv:2103.00020)."""
TEMPLATES = tuple(f"a centered satellite photo of {article}{{}}." for article in ("", "a ", "the "))


def read(folder: Path) -> Dataset:
    """All pictures, split by key into as many as Kim et al. had."""
    kept, test = carved(tree(folder, list(NAMES)), TEST, "eurosat test")
    return made("eurosat", list(NAMES.values()), three(*carved(kept, SELECT, "eurosat"), test), TEMPLATES, list(NAMES))


ENTRIES = (
    Named(
        "eurosat",
        "EuroSAT (RGB): 27,000 satellite pictures of 64 x 64 in 10 kinds of land.",
        read,
        folders=("eurosat/2750", "EuroSAT/2750", "eurosat/EuroSAT_RGB", "EuroSAT_RGB"),
        needs=("AnnualCrop",),
        get="EuroSAT.zip by github.com/phelber/EuroSAT, or torchvision's EuroSAT",
        licence="MIT",
        paper="Helber et al. 2019, arXiv:1709.00029",
        counts={"train": 15_000, "select": SELECT, "id": TEST},
        classes="95a875a9a8093ab0",
        notes="There is no official split. The sizes are Kim et al.'s (their Table 5); which pictures they took is not "
        "published, so these are drawn by key. CoOp's split is coop-eurosat.",
    ),
)
