"""Learned tokens among a tower's own: put in before a block, exchanged before a later one, taken out after the last.

The one place that knows a sequence's shape: (B, L, W) in and between blocks, for open_clip from 3.3 on and for timm.
"""

# B sequences, L tokens, P learned tokens, W width.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.errors import ConfigError

Read = Callable[[], Tensor]
"""Learned tokens_PW as they now are."""


def blocks_of(encoder: Encoder, tower: str, what: str) -> int:
    """How many blocks a tower has. Raises `ConfigError` for a tower without, or one whose blocks count their tokens."""
    blocks = encoder.blocks(tower)
    if not blocks or f"{tower}.0.block" not in encoder.children:
        raise ConfigError(
            f"{encoder.spec.name} has no transformer blocks in its {tower} tower, between which {what} stands. "
            "Use an encoder with a ViT, or tune something that this tower has (likewise plan lists its names)."
        )
    if any(name.split(".")[-1] == "rope" for name, _ in encoder.module.named_modules()):
        raise ConfigError(
            f"{encoder.spec.name} turns its tokens by their places in every attention (rotary positions); it has "
            f"places for its own alone, so {what} cannot stand in it. Use an encoder whose positions are added."
        )
    if not uniform_blocks(encoder, tower):
        raise ConfigError(
            f"{encoder.spec.name} has blocks of several widths in its {tower} tower, and {what} is of one. Use an "
            "encoder with a plain ViT, or tune something else of it."
        )
    return blocks


def uniform_blocks(encoder: Encoder, tower: str) -> bool:
    """Whether a tower's blocks are numbered and of one width."""
    norms = [encoder.sites.get(f"{tower}.{block}.norm1.weight") for block in range(encoder.blocks(tower))]
    return bool(norms) and len({None if norm is None else len(norm.value) for norm in norms}) == 1


@torch.no_grad()
def glimpse(encoder: Encoder) -> None:
    """One grey picture through the image tower as it now is, for what hooks see of it. Nothing of the tower changes."""
    modes = [(module, module.training) for module in encoder.module.modules()]
    encoder.module.eval()
    try:
        encoder.image(torch.zeros(1, 3, encoder.spec.image_size, encoder.spec.image_size, device=encoder.device))
    finally:
        for module, mode in modes:
            module.training = mode


def check_room(encoder: Encoder, what: str) -> None:
    """Raises `ConfigError` where the image tower, with the learned tokens that are in it, has no room for them."""
    try:
        glimpse(encoder)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"{encoder.spec.name} counts its tokens (places relative to each other, mixing between places), so {what} "
            f"cannot stand among them: {error}. Use an encoder whose positions are added."
        ) from None


def width_of(encoder: Encoder, tower: str) -> int:
    """W: how wide the tokens between a tower's blocks are. Raises `ConfigError` where it cannot be known."""
    name = f"{tower}.0.norm1.weight"
    if name not in encoder.sites:
        raise ConfigError(f"{encoder.spec.name} has no {name}, by which the width of its tokens is known.")
    return int(encoder.sites[name].value.shape[0])


def insert(read: Read, at: int | None) -> Callable[..., Any]:
    """A hook before a module: P tokens more, before the token `at`, or at the end (None)."""

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x_BLW: Tensor = inputs[0]
        place = x_BLW.shape[1] if at is None else at
        return (_join(x_BLW[:, :place], read(), x_BLW[:, place:]), *inputs[1:])

    return hook


def exchange(read: Read, at: int | None) -> Callable[..., Any]:
    """A hook before a module: the P tokens from `at`, or the last P (None), are others now."""

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x_BLW: Tensor = inputs[0]
        new_PW = read()
        place = x_BLW.shape[1] - len(new_PW) if at is None else at
        return (_join(x_BLW[:, :place], new_PW, x_BLW[:, place + len(new_PW) :]), *inputs[1:])

    return hook


def take_out(count: int, at: int | None) -> Callable[..., Any]:
    """A hook after a module: without the `count` tokens from `at`, or the last ones (None)."""

    def hook(_: nn.Module, __: tuple[Any, ...], x_BLW: Tensor) -> Tensor:
        place = x_BLW.shape[1] - count if at is None else at
        return torch.cat([x_BLW[:, :place], x_BLW[:, place + count :]], dim=1)

    return hook


def _join(before_BLW: Tensor, new_PW: Tensor, after_BLW: Tensor) -> Tensor:
    new_BPW = new_PW.to(before_BLW.dtype).expand(len(before_BLW), -1, -1)
    return torch.cat([before_BLW, new_BPW, after_BLW], dim=1)
