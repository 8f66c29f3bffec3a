"""Adapt pretrained image-text models to your own images without losing what they knew, and prove it.

import likewise as lw
encoder = lw.load("icon-clip")
data = lw.Dataset.from_folder("photos", ood={"winter": "photos_winter"})
run = lw.adapt(encoder, data, recipe=lw.recipes.flyp_wise, out="runs/photos-01")
run.results; run.predictor.predict(["a.jpg"])
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Dataset", "LikewiseError", "Pair", "Pairs", "Run", "adapt", "caption", "export", "load", "recipes", "sweep"]

_HOMES = {
    "Dataset": ("likewise.data.records", "Dataset"),
    "LikewiseError": ("likewise.errors", "LikewiseError"),
    "Pair": ("likewise.encoders.pair", "Pair"),
    "Pairs": ("likewise.data.captions", "Pairs"),
    "Run": ("likewise.run.adapt", "Run"),
    "adapt": ("likewise.api", "adapt"),
    "caption": ("likewise.api", "caption"),
    "export": ("likewise.export", None),
    "load": ("likewise.encoders", "load"),
    "recipes": ("likewise.recipes", None),
    "sweep": ("likewise.api", "sweep"),
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; `likewise --help` should not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'likewise' has no attribute {name!r}")
    home, attribute = _HOMES[name]
    module = importlib.import_module(home)
    return module if attribute is None else getattr(module, attribute)
