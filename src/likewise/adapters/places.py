"""Where an adapter on tokens may stand, and the hook by which it changes what a module answers."""

# x what goes into a module, y what comes out; ... any shape, W width in the last axis.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from likewise.adapters.tokens import width_of
from likewise.encoder import Encoder
from likewise.errors import ConfigError, near, some
from likewise.names import select, tower_of

PARTS = ("attention", "mlp", "block")
"""The last words of a transformer block's places."""


def choose(encoder: Encoder, what: str, at: Sequence[str], places: Sequence[str]) -> list[str]:
    """The places that the patterns `at` choose. Raises `ConfigError` naming the pattern that chooses none."""
    if not at:
        raise ConfigError(f"{what} has an empty `at`, so it would stand nowhere. Name places: {some(places)}.")
    for pattern in at:
        try:
            select((pattern,), places)
        except ConfigError:
            tower = tower_of(pattern)
            bare = tower in ("image", "text") and not encoder.blocks(tower)
            why = f" Its {tower} tower has no transformer blocks." if bare else ""
            raise ConfigError(
                f"{what} has no place «{pattern}» in {encoder.spec.name}.{why}{near(pattern, places)} "
                f"Places for it here: {some(places) or 'none'}. Choose among them with `at`."
            ) from None
    return select(at, places)


def in_blocks(encoder: Encoder, what: str, at: Sequence[str]) -> list[tuple[str, int]]:
    """The chosen attentions, MLPs and whole blocks, each with the width W of its tokens. Raises `ConfigError`."""
    places = [name for name in encoder.children if name.split(".")[-1] in PARTS]
    return [(place, width_of(encoder, tower_of(place))) for place in choose(encoder, what, at, places)]


def answering(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """A hook after a module: `change(x, y)` is its answer. Of a tuple, as attention gives, y is the first.

    Where autocast gave y fewer bits, `change` gets it in them and its answer is rounded to them again.
    """

    def hook(_: nn.Module, inputs: tuple[Any, ...], answer: Any) -> Any:
        if isinstance(answer, tuple):
            return (change(inputs[0], answer[0]).to(answer[0].dtype), *answer[1:])
        return change(inputs[0], answer).to(answer.dtype)

    return hook
