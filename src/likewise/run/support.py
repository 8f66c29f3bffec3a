"""What each method can do with each family of encoder, read off the values: no table is written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from likewise.adapters import grafted
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads import HeadConfig, Text
from likewise.recipe import Recipe, no_soup, starts_at_texts
from likewise.run.planning import plans


def support(recipe: Recipe, encoders: Mapping[str, Encoder]) -> dict[str, Any]:
    """One row: each family "yes" or why not; `folds`, `path`, `soup`, `text`, as `likewise ls methods` prints them."""
    row: dict[str, Any] = {}
    folds = set()
    for family, encoder in encoders.items():
        try:
            plans(recipe, encoder, 2, 4)
            row[family] = "yes"
            folds |= {_folds(recipe, encoder)}
        except ConfigError as error:
            row[family] = f"no: {error}"
    return row | {
        "folds": "some" if len(folds) > 1 else next(iter(folds), "-"),
        "path": recipe.merge.form if recipe.merge else f"no: {recipe.no_merge}",
        "soup": f"no: {why}" if (why := no_soup(recipe.stages)) else "yes",
        "text": _text(recipe),
    }


def _folds(recipe: Recipe, encoder: Encoder) -> str:
    """Whether what is added ends in the weights: "yes", "no", or "-" where nothing is added."""
    if not recipe.adapters:
        return "-"
    with grafted(encoder, [adapter.for_classes(2) for adapter in recipe.adapters]):
        return "no" if {"token", "module"} & set(encoder.grafts.seams.values()) else "yes"


def _text(recipe: Recipe) -> str:
    """When the text tower is asked: at every prediction, in training, for the start of the head, or never."""
    head = recipe.head
    if isinstance(head, HeadConfig) and head.live_text:
        return "always"
    if any(isinstance(stage.head, Text) and stage.trains for stage in recipe.stages):
        return "training"
    return "start" if starts_at_texts(head) else "never"
