"""Where an adapter on tokens may stand, and the hook by which it changes what a module answers."""

# x what goes into a module, y what comes out; ... any shape, W width in the last axis.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from likewise.adapters.tokens import glimpse, uniform_blocks, width_of
from likewise.encoder import Encoder
from likewise.errors import ConfigError, near, some
from likewise.names import select, tower_of

PARTS = ("attention", "mlp", "block")
"""The last words of a transformer block's places."""


def choose(
    encoder: Encoder, what: str, at: Sequence[str], places: Sequence[str], told: Sequence[str] = ()
) -> list[str]:
    """The places that the patterns `at` choose. Raises `ConfigError` naming the pattern that chooses none.

    `told` are those that the message offers, where it can stand in only some of `places`.
    """
    offered = told or places
    if not at:
        raise ConfigError(f"{what} has an empty `at`, so it would stand nowhere. Name places: {some(offered)}.")
    for pattern in at:
        try:
            select((pattern,), places)
        except ConfigError:
            tower = tower_of(pattern)
            if tower in ("image", "text"):
                offered = [place for place in offered if tower_of(place) == tower]
            why = ""
            if "norm" in pattern and tower == "image" and not any("norm" in n for n in places if tower_of(n) == tower):
                why = " Its image tower has no norms; FiLM can stand on the blocks (film-blocks)."
            elif tower in ("image", "text") and not encoder.blocks(tower):
                why = f" Its {tower} tower has no transformer blocks."
            raise ConfigError(
                f"{what} has no place «{pattern}» in {encoder.spec.name}.{why}{near(pattern, offered)} "
                f"Places for it here: {some(offered) or 'none'}.{' Choose among them with `at`.' if offered else ''}"
            ) from None
    return select(at, places)


def in_blocks(encoder: Encoder, what: str, at: Sequence[str]) -> list[tuple[str, int]]:
    """The chosen attentions, MLPs and whole blocks, each with the width W of its tokens. Raises `ConfigError`."""
    places = [name for name in encoder.children if name.split(".")[-1] in PARTS]
    found = answers_of(encoder, what, choose(encoder, what, at, places))
    for place, answer in found.items():
        if answer.axis == 1:
            raise ConfigError(
                f"{what} works along a token's numbers, and {place} of {encoder.spec.name} answers with channels of "
                "pictures (B, C, H, W). Leave it out of `at`; FiLM can stand there."
            )
    return [(place, answer.width) for place, answer in found.items()]


class Answer(NamedTuple):
    """What a place answers: how many channels, and whether along axis 1 (B, C, H, W) or the last one (-1)."""

    width: int
    axis: int


def answers_of(encoder: Encoder, what: str, places: Sequence[str]) -> dict[str, Answer]:
    """Known of text and of blocks of one width; of other places in an image tower one grey picture tells.

    Raises `ConfigError` for a place that the tower does not call, and for one whose channels cannot be told.
    """
    plain = {tower for tower in ("image", "text") if tower == "text" or uniform_blocks(encoder, tower)}
    known = [place for place in places if tower_of(place) in plain and place.split(".")[-1] in PARTS]
    out = {place: Answer(width_of(encoder, tower_of(place)), -1) for place in known}
    rest = [place for place in places if place not in out]
    shapes = _shapes(encoder, rest) if rest else {}
    axes = {name: _axis(encoder, name, shape) for name, shape in shapes.items()}
    for place in rest:
        if place not in shapes:
            raise ConfigError(
                f"{what} changes what a module answers, and {encoder.spec.name} reads {place} without calling it. "
                "Leave it out of `at`."
            )
        # What has equal sides and channels is laid out as its peers are.
        peers = {axis for name, axis in axes.items() if axis and name.split(".")[-1] == place.split(".")[-1]}
        axis = axes[place] or (peers.pop() if len(peers) == 1 else 0)
        if not axis:
            raise ConfigError(
                f"{what}: {place} of {encoder.spec.name} answers {shapes[place]}, and which of these are its channels "
                "cannot be told. Leave it out of `at`."
            )
        out[place] = Answer(shapes[place][axis], axis)
    return {place: out[place] for place in places}


def _shapes(encoder: Encoder, places: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What these places, and all that are called alike, answer to one picture."""
    seen: dict[str, tuple[int, ...]] = {}
    kinds = {place.split(".")[-1] for place in places}

    def look(place: str, answer: Any) -> None:
        seen[place] = tuple((answer[0] if isinstance(answer, tuple) else answer).shape)

    handles = [
        site.value.register_forward_hook(lambda _, __, answer, place=name: look(place, answer))
        for name, site in encoder.children.items()
        if name.startswith("image.") and name.split(".")[-1] in kinds
    ]
    try:
        glimpse(encoder)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _axis(encoder: Encoder, place: str, shape: tuple[int, ...]) -> int:
    """Where the channels are, 1 or -1: as many as a norm's weight has, or not as many as the sides of a picture, which
    are equal. 0 where that does not tell.
    """
    if len(shape) != 4:
        return -1
    weight = encoder.sites.get(f"{place}.weight")
    if weight is not None and weight.value.ndim == 1:
        fits = [axis for axis in (1, -1) if shape[axis] == len(weight.value)]
        return fits[0] if len(fits) == 1 else 0
    return 1 if shape[1] != shape[2] else -1 if shape[2] != shape[3] else 0


def answering(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """A hook after a module: `change(x, y)` is its answer. Of a tuple, as attention gives, y is the first.

    Where autocast gave y fewer bits, `change` gets it in them and its answer is rounded to them again.
    """

    def hook(_: nn.Module, inputs: tuple[Any, ...], answer: Any) -> Any:
        if isinstance(answer, tuple):
            return (change(inputs[0], answer[0]).to(answer[0].dtype), *answer[1:])
        return change(inputs[0], answer).to(answer.dtype)

    return hook
