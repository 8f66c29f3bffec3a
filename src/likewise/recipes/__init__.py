"""The named methods, each with its paper, a file for each family. Adding a method is one line in its family.

Rates are for CLIPs of ViT-B size and up: `get` multiplies those of stages that train pretrained numbers by an encoder's
`rate_scale`. Lengths are for a few thousand pictures where no paper gives them.
Departs: Kim et al. train every method at 5e-4, at which full fine-tuning collapses; `ln` and `ft` have lower rates.
"""

from __future__ import annotations

from collections.abc import Collection

from likewise.errors import UsageError, near
from likewise.recipe import Recipe, rescaled
from likewise.recipes import added, captions, features, kim, norms, prompts, whole

FAMILIES: dict[str, dict[str, Recipe]] = {
    "whole": whole.RECIPES,
    "norms": norms.RECIPES,
    "added": added.RECIPES,
    "prompts": prompts.RECIPES,
    "features": features.RECIPES,
    "kim": kim.RECIPES,
    "captions": captions.RECIPES,
}
RECIPES: dict[str, Recipe] = {name: recipe for family in FAMILIES.values() for name, recipe in family.items()}

LADDERS: dict[str, tuple[str, ...]] = {
    "quick": ("zero-shot", "knn", "linear"),
    "standard": ("zero-shot", "knn", "linear", "ln", "lp-ft", "flyp"),
    "thorough": ("zero-shot", "knn", "linear", "ln", "lora", "ft", "l2-sp", "lp-ft", "flyp", "flyp-soft", "flyp-ce"),
}
"""What `adapt` climbs at each effort, cheap first."""

AS_PUBLISHED = ("flyp-published", *kim.RECIPES)
"""Recipes whose rates no encoder changes."""

flyp_wise, ft_wise = RECIPES["flyp-wise"], RECIPES["ft-wise"]


def get(name: str, rate_scale: float = 1.0, new: Collection[str] = ()) -> Recipe:
    """The recipe of that name, at the rates of the encoder that it is for; `new` names what is not pretrained there.

    Raises `UsageError` with the near miss.
    """
    if name not in RECIPES:
        raise UsageError("C01", f"no recipe «{name}».{near(name, RECIPES)} Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name] if name in AS_PUBLISHED else rescaled(RECIPES[name], rate_scale, new)


def for_captions(name: str, rate_scale: float = 1.0, new: Collection[str] = ()) -> tuple[str, Recipe]:
    """`get` of `caption-NAME`, or of NAME where it is called so already, with the name that it goes by."""
    name = name if name in RECIPES and name.startswith("caption-") else f"caption-{name}"
    if name not in captions.RECIPES:
        short = [known.removeprefix("caption-") for known in captions.RECIPES]
        wrong = name.removeprefix("caption-")
        raise UsageError("C01", f"no method «{wrong}» for captions.{near(wrong, short)} Methods: {', '.join(short)}.")
    return name, get(name, rate_scale, new)
