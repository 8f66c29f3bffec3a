"""What is done to weights after training: the straight line between the pretrained and the tuned model (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from likewise.config import Config


class Wise(Config):
    """(1 - alpha) pretrained + alpha tuned, for every number that trained.

    Wortsman et al. 2022, arXiv:2109.01903, section 3. With a text head the towers are interpolated and the head is
    rebuilt from the interpolated text tower (form `weights`); a linear head is itself interpolated with the
    pretrained text head (form `head`), together with the image tower where that trained. `alpha="select"`: chosen on
    the select split by the one-standard-error rule, the smallest alpha first.
    """

    alpha: float | Literal["select"] = Field("select")
    form: Literal["weights", "head"]


def lerp(zero: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The point at `alpha` on the line from `zero` (0) to `tuned` (1), bitwise the ends at the ends.

    Always from the two ends, never in a chain. alpha is a fraction; floats only.
    """
    return {name: torch.lerp(zero[name], end.to(zero[name].device), alpha) for name, end in tuned.items()}
