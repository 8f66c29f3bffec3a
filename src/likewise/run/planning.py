"""What a recipe would train on an encoder, stage by stage, before anything is touched."""

from __future__ import annotations

from likewise.adapters import add
from likewise.encoder import Encoder
from likewise.heads import HeadConfig, Keep
from likewise.names import Plan
from likewise.recipe import Descent, Recipe


def plans(recipe: Recipe, encoder: Encoder, classes: int, pictures: int = 0) -> list[Plan]:
    """One plan a stage; heads count for so many classes and training pictures. Leaves the encoder as it was."""
    found = []
    head: dict[str, int] = {}
    try:
        for stage, new in zip(recipe.stages, recipe.new_adapters, strict=True):
            add(encoder, [adapter.for_classes(max(1, classes)) for adapter in new], 0)
            if not isinstance(stage.head, Keep):
                own = stage.head.sizes(encoder, classes, pictures) if isinstance(stage.head, HeadConfig) else {}
                head = {f"head.{name}": size for name, size in own.items()}
            sizes = {name: p.numel() for name, p in encoder.parameters_by_name().items()}
            found.append(stage.plan(sizes | head))
    finally:
        encoder.grafts.remove()
    return found


def trained(found: list[Plan]) -> dict[str, int]:
    """Every name that some stage trains, with how many numbers it holds."""
    return {name: n for plan in found for name, n in zip(plan.trains, plan.counts, strict=True)}


def steps(recipe: Recipe, pictures: int, classes: int) -> int:
    """Optimiser steps of all gradient stages, and of all members of a soup, on so many pictures of so many classes."""
    once = sum(s.fit.steps(pictures, classes) for s in recipe.stages if isinstance(s.fit, Descent))
    return once * (len(recipe.soup.rates) if recipe.soup else 1)
