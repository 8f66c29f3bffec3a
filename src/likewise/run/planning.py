"""What a recipe would train on an encoder, stage by stage, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from likewise.adapters import add
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError
from likewise.fit.compare import check_bank
from likewise.fit.replay import places_of
from likewise.heads import HeadConfig, Keep
from likewise.names import Plan
from likewise.recipe import Descent, Recipe, Stage


def plans(recipe: Recipe, encoder: Encoder, classes: int, pictures: int = 0) -> list[Plan]:
    """One plan a stage; heads count for so many classes and training pictures. Leaves the encoder as it was."""
    found = []
    head: dict[str, int] = {}
    try:
        for kept, stage, new in zip(recipe.stages, recipe.settled, recipe.new_adapters, strict=True):
            add(encoder, [adapter.for_classes(max(1, classes)) for adapter in new], 0)
            if not isinstance(kept.head, Keep):
                own = stage.head.sizes(encoder, classes, pictures) if isinstance(stage.head, HeadConfig) else {}
                head = {f"head.{name}": size for name, size in own.items()}
            if stage.replay is not None:
                places_of(stage.replay, encoder)
            if "shift" in stage.trains and "shift" not in encoder.sites:
                raise ConfigError(
                    "its sigmoid loss trains a shift, and there is none to train: this encoder was made with softmax. "
                    "Take the contrastive loss, or an encoder with a shift (a SigLIP, or a vision encoder with --text)."
                )
            sizes = {name: p.numel() for name, p in encoder.parameters_by_name().items()}
            found.append(stage.plan(sizes | head))
            check_bank(stage.loss, found[-1])
    finally:
        encoder.grafts.remove()
    return found


def planned(recipes: Mapping[str, Recipe], encoder: Encoder, classes: int, pictures: int) -> dict[str, list[Plan]]:
    """The plans of recipes by name. Raises `ConfigError` naming the method that cannot be here."""
    found, refused = possible(recipes, encoder, classes, pictures)
    for error in refused.values():
        raise error
    return found


def possible(
    recipes: Mapping[str, Recipe], encoder: Encoder, classes: int, pictures: int
) -> tuple[dict[str, list[Plan]], dict[str, ConfigError]]:
    """The plans of those recipes that can be here, by name, and for each of the others why it cannot."""
    found, refused = {}, {}
    for name, recipe in recipes.items():
        try:
            found[name] = plans(recipe, encoder, classes, pictures)
        except ConfigError as error:
            said = f"{name} cannot be used with {encoder.spec.name}: {error}"
            refused[name] = ConfigError(said, error.code)
    return found, refused


def check_replays(recipes: Mapping[str, Recipe]) -> None:
    """Raises `UsageError` U01 where pictures are given to rehearse and no recipe replays."""
    if not any(stage.replay for recipe in recipes.values() for stage in recipe.stages):
        raise UsageError(
            "U01",
            f"pictures are given for replay (--replay), and {', '.join(recipes)} would not rehearse them: none "
            "replays. Add the method token-replay, give a stage a replay, or leave the pictures out.",
        )


def trained(recipe: Recipe, found: Sequence[Plan]) -> dict[str, int]:
    """Every name that some stage trains and the final model has, with how many numbers it holds, from all plans."""
    out: dict[str, int] = {}
    for stage, plan in zip(recipe.stages, found, strict=True):
        out = left_to(stage, out) | dict(zip(plan.trains, plan.counts, strict=True))
    return out


def left_to(stage: Stage, names: Mapping[str, int]) -> dict[str, int]:
    """What a stage takes over of what trained before it: of a head that it replaces, nothing."""
    return {name: n for name, n in names.items() if isinstance(stage.head, Keep) or not name.startswith("head.")}


def steps(recipe: Recipe, pictures: int, classes: int) -> int:
    """Optimiser steps of all gradient stages, and of all members of a soup, on so many pictures of so many classes."""
    once = sum(s.fit.steps(pictures, classes) for s in recipe.stages if isinstance(s.fit, Descent))
    return once * (len(recipe.soup.rates) if recipe.soup else 1)
