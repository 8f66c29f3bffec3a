"""What must be known of an encoder, and the small shapes that travel between rooms."""

# B images, D shared width, W width of pooled features.

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from likewise.config import Config, fingerprint

LEARNED = 0xF0000
"""Code point of the first learned word (a private plane of Unicode; prompts put vectors in these places)."""


def learned(number: int) -> str:
    """The character that stands for learned word `number` in a prompt. `Encoder.tokenize` makes it id -1 - number."""
    return chr(LEARNED + number)


class EncoderSpec(Config):
    """What must be known to use weights rightly; it travels in every artefact, and a mismatch is an error."""

    family: str
    name: str
    config: dict[str, Any]
    """The library's own description of the architecture, activation included."""
    weights: str
    """SHA-256 of all parameters and buffers under our names, or "" for an encoder without pretrained weights."""
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["shortest", "longest", "squash"]
    interpolation: Literal["bicubic", "bilinear", "nearest"]
    context: int
    crop: float = Field(1.0, gt=0, le=1)
    """How much of the resized side the middle `image_size` is: pictures are resized to floor(image_size / crop)."""

    @property
    def digest(self) -> str:
        """Identity apart from the name by which it was asked for."""
        silent = {"name", "crop"} if self.crop == 1 else {"name"}  # as it was before there was a crop
        return fingerprint({k: v for k, v in self.tree().items() if k not in silent})


class Embedded(NamedTuple):
    """One batch of pictures: `pooled_BW` before the projection (None where there is none), `shared_BD` after."""

    pooled_BW: Tensor | None
    shared_BD: Tensor


class Site(NamedTuple):
    """A place in the upstream model: attribute `attr` of module `owner`."""

    owner: nn.Module
    attr: str

    @classmethod
    def at(cls, root: nn.Module, dotted: str) -> Site:
        """Where a parameter or module of `root` is."""
        owner, _, attr = dotted.rpartition(".")
        return cls(root.get_submodule(owner), attr)

    @property
    def value(self) -> Any:
        return getattr(self.owner, self.attr)


def original(site: Site) -> nn.Parameter:
    """The parameter at a site, under whatever was grafted on it."""
    if parametrize.is_parametrized(site.owner, site.attr):
        original: nn.Parameter = site.owner.parametrizations[site.attr].original  # type: ignore[index, union-attr, assignment]
        return original
    parameter: nn.Parameter = site.value
    return parameter


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
