"""MNIST: 70,000 handwritten digits, 28 x 28, light on black (LeCun et al. 1998).

Train 55,000 and select 5,000 of the 60,000 training pictures, drawn by key; in-distribution report the 10,000 test
pictures.
"""

from __future__ import annotations

from likewise.datasets import idx
from likewise.datasets.named import Named

NAMES = tuple(map(str, range(10)))
TEMPLATES = ('a photo of the number: "{}".',)

ENTRIES = (
    Named(
        "mnist",
        "MNIST: 70,000 handwritten digits, 28 x 28, light on black.",
        idx.reader("mnist", NAMES, TEMPLATES),
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
