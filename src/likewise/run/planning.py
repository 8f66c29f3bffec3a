"""What a recipe would train on an encoder, stage by stage, before anything is touched."""

from __future__ import annotations

import math

from likewise.encoder import Encoder
from likewise.heads import Keep, Linear
from likewise.names import Plan, make_plan
from likewise.recipe import AdamW, Recipe


def plans(recipe: Recipe, encoder: Encoder, classes: int) -> list[Plan]:
    """One plan a stage; a linear head counts (width + 1) numbers for each of `classes`."""
    sizes = {name: p.numel() for name, p in encoder.parameters_by_name().items()}
    head = {"head.weight": classes * encoder.shared_width, "head.bias": classes}
    return [make_plan(s.trains, sizes | head if isinstance(s.head, Linear | Keep) else sizes) for s in recipe.stages]


def trained(found: list[Plan]) -> dict[str, int]:
    """Every name that some stage trains, with how many numbers it holds."""
    return {name: n for plan in found for name, n in zip(plan.trains, plan.counts, strict=True)}


def steps(recipe: Recipe, pictures: int) -> int:
    """Optimiser steps of all AdamW stages on so many training pictures."""
    return sum(s.fit.epochs * math.ceil(pictures / s.fit.batch) for s in recipe.stages if isinstance(s.fit, AdamW))
