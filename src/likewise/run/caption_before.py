"""What is looked at before a run on captions writes or trains anything: points, judges, leaks, captions, plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from likewise.data.apart import apart
from likewise.data.caption_sources import check_captions
from likewise.data.captions import Pairs
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError
from likewise.losses import Contrastive, Masked, Sigmoid
from likewise.names import Plan
from likewise.recipe import Recipe
from likewise.run.planning import possible
from likewise.run.watch import Watch


class Foreseen(NamedTuple):
    """The pairs to train on, the plans of the methods that can be, and why the others are left out."""

    pairs: Pairs
    plans: dict[str, list[Plan]]
    skipped: dict[str, str]


def foresee(
    encoder: Encoder,
    pairs: Pairs,
    recipes: Mapping[str, Recipe],
    judges: Sequence[Dataset],
    alphas: Sequence[float],
    watch: Watch,
) -> Foreseen:
    """What a run will train, on pairs without the pictures that a judge selects or reports on (`data.apart`).

    What is found in the pairs is said, and a warning in their audit. A method that the encoder cannot have is left out,
    where there is another. Raises `UsageError` U01 for a path of nothing but its beginning, C02 without judges or with
    two of one name; `ConfigError` for a recipe that does not learn from captions, or where no method can be;
    `DataError` D11 where no caption is read whole, D15 where no pair is left.
    """
    check(recipes)
    if not any(alphas):
        raise UsageError("U01", "alphas name no point but 0, the pretrained encoder. Name another, such as 0,0.5,1.")
    if not judges:
        raise UsageError("C02", "nothing to judge by: name labelled data, like --eval iconshift or --eval photos/.")
    if len({data.name for data in judges}) < len(judges):
        raise UsageError("C02", "two data sets to judge by have the same name. Give each once.")
    plans, refused = possible(recipes, encoder, len(pairs), len(pairs))
    for name, error in refused.items():
        if not plans:
            raise error
        watch.say(f"left out {name}: {error}")
    known = len(pairs.audit.warnings)
    pairs = apart(pairs, judges, watch.bar)
    texts = pairs.groups().texts
    for finding in check_captions(texts, encoder.lengths(texts), encoder.spec.context):
        pairs.audit.warn(*finding)
    for code, message in pairs.audit.warnings[known:]:
        watch.say(f"{code} {message}")
    return Foreseen(pairs, plans, {name: str(error) for name, error in refused.items()})


def check(recipes: Mapping[str, Recipe]) -> None:
    """Raises `ConfigError` where a recipe does not learn from captions."""
    for name, recipe in recipes.items():
        fitted = [stage for stage in recipe.stages if stage.fit is not None]
        if not fitted or any(not isinstance(stage.loss, Contrastive | Sigmoid | Masked) for stage in fitted):
            raise ConfigError(
                f"{name} learns from classes, not from captions: each of its stages needs the contrastive, the "
                "sigmoid or the masked loss. Methods made for it: likewise ls methods, caption-*."
            )
        if brings := next((a.kind for a in recipe.adapters if a.brings_texts), ""):
            raise ConfigError(f"{name} writes prompts of its own ({brings}), and here the captions are the texts.")
