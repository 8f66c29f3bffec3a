"""After training: lines to the pretrained model (WiSE-FT, LiNeS), and means of several runs (soups)."""

# L blocks of a tower.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from likewise.config import Config
from likewise.names import tower_of


class Wise(Config):
    """(1 - alpha) pretrained + alpha tuned, for every number that trained.

    Wortsman et al. 2022, arXiv:2109.01903, section 3. With a text head the towers are interpolated and the head is
    rebuilt from the interpolated text tower (form `weights`); a linear head is itself interpolated with the
    pretrained text head (form `head`), together with the image tower where that trained. `alpha="select"`: chosen on
    the select split by the one-standard-error rule, the smallest alpha first.

    `first` below 1 is LiNeS (Wang et al. 2024, arXiv:2410.17146, equation 4): what comes before the blocks and the
    first block go only `first` times as far as the last, those between in even steps. Its alpha of 1 is then not the
    tuned model. Departs: one slope for both towers, and the numbers outside the blocks go with the nearest block.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["select"] = "select"
    form: Literal["weights", "head"]
    first: float = Field(1.0, ge=0, le=1)


class Soup(Config):
    """The mean of the weights of several trainings of one recipe, at `rates` times its learning rates.

    Wortsman et al. 2022, Model soups, arXiv:2203.05482: `uniform` takes all; `greedy` (recipe 1 there) goes through
    them from the best on the select split and keeps each that does not make the mean worse there. Departs: members
    differ in learning rate and order of the pictures (seed), not in augmentation.
    """

    kind: Literal["uniform", "greedy"] = "greedy"
    rates: tuple[PositiveFloat, ...] = Field((0.3, 1.0, 3.0), min_length=2)


def lerp(zero: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The point at `alpha` on the line from `zero` (0) to `tuned` (1), bitwise the ends at the ends.

    Always from the two ends, never in a chain. alpha is a fraction; floats only.
    """
    return {name: torch.lerp(zero[name], end.to(zero[name].device), alpha) for name, end in tuned.items()}


def depths(names: Sequence[str], blocks: Mapping[str, int]) -> dict[str, float]:
    """Where each number stands in its tower, from 0 (before and in the first block) to 1 (in and after the last).

    `blocks` says how many blocks a tower has; towers without any, `scale`, and what both towers read stand at 1.
    """
    out = {}
    for name in names:
        tower = tower_of(name)
        found = re.search(rf"\b{tower}\.(\d+)\.", name)
        last = blocks.get(tower, 0) - 1
        before = any(f"{tower}.{part}" in name for part in ("patch", "class", "positions", "tokens", "norm_pre"))
        out[name] = int(found[1]) / last if found and last > 0 else 0.0 if before and last > 0 else 1.0
    return out


def lines(
    zero: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float, first: float, blocks: Mapping[str, int]
) -> dict[str, Tensor]:
    """As `lerp`, each number going alpha (first + (1 - first) depth) of its way."""
    depth = depths(list(tuned), blocks)
    out: dict[str, Tensor] = {}
    for name in tuned:
        out |= lerp(zero, {name: tuned[name]}, alpha * (first + (1 - first) * depth[name]))
    return out


def mean(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The unweighted mean of each number over the members."""
    return {name: torch.stack([member[name].float() for member in members]).mean(0) for name in members[0]}
