"""FiLM: a gain and a shift for each channel. Perez et al. 2017, arXiv:1709.07871, equation 2."""

# O output channels; ... any shape.

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.places import PARTS, Answer, answering, answers_of, choose
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError

STANDARDISED = (ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame)
"""Convolutions that standardise their weight when they read it, and so undo a gain on its rows."""


class Film(AdapterConfig):
    """y -> (1 + gain) y + shift for what comes out of each chosen place; 2 x channels numbers each.

    Places are the encoder's modules and whatever has `<place>.weight` and `<place>.bias`, packed q, k, v too. Where
    both are, the layer's rows and bias are changed instead, which is the same function and folds exactly (`folded`):
    norms, linear layers, convolutions. Elsewhere (`image.3.block`, `image.3.mlp`, `image.stage1.0.block` of a CNN, a
    convolution without bias) a hook changes the answer, along axis 1 of pictures (B, C, H, W) and along the last axis
    of tokens.

    On CLIP ViT-B/16: 36,864 after norm1 and norm2 of each image block; 18,432 at ("image.*.block",). A CNN's channels,
    as FiT has them (Shysheya et al. 2022, arXiv:2206.08671): at ("image.*norm*",), 53,120 on ResNet-50. SSF (Lian et
    al. 2022, arXiv:2210.08823, section 3.2) is the same with every operation chosen: at ("image.patch*",
    "image.*norm*", "image.*.qkv", "image.*.out", "image.*.up", "image.*.down"), 205,824 on a plain ViT-B/16, 207,360
    on CLIP's, which has a norm before the blocks.

    Raises `ConfigError` for a place that the encoder lacks or does not call, and for one whose channels cannot be told.

    Departs: gain is gamma - 1, so weight decay pulls to the pretrained point. Both start at zero; SSF draws them with
    std 0.02. Nothing generates them from a text or a set, as Perez et al. do: they are numbers that train.
    """

    kind: Literal["film"] = "film"
    at: tuple[str, ...] = ("image.*.norm1", "image.*.norm2")
    scales: ClassVar[tuple[str, ...] | None] = (".gain", ".shift")
    linear: ClassVar[bool] = True

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        layers = [
            name.removesuffix(".weight")
            for name, site in encoder.sites.items()
            if name.endswith(".weight")
            and name.removesuffix("weight") + "bias" in encoder.sites
            and not isinstance(site.owner, STANDARDISED)
        ]
        places = choose(encoder, "FiLM", self.at, list(dict.fromkeys([*encoder.children, *layers])))
        known = {place: Answer(_channels(encoder, place), -1) for place in places if place in layers}
        known |= _by_weight(encoder, [place for place in places if place not in layers])
        answers = known | answers_of(encoder, "FiLM", [place for place in places if place not in known])
        for place in places:
            film = _Film(answers[place], encoder.device)
            own = f"film.{place}"
            if place in layers:
                grafts.weight(own, encoder.sites[f"{place}.bias"], film)
                grafts.weight(f"{own}.weight", encoder.sites[f"{place}.weight"], _Rows(film))
            else:
                grafts.token(own, encoder.children[place], film, answering(lambda _, y, film=film: film(y)))  # type: ignore[misc]


def _channels(encoder: Encoder, place: str) -> int:
    """Of a layer with weight and bias."""
    rows, channels = (len(encoder.sites[f"{place}.{part}"].value) for part in ("weight", "bias"))
    if rows == channels:
        return channels
    raise ConfigError(
        f"FiLM cannot stand at {place}: its weight has {rows} rows and its bias {channels} numbers, so a row is "
        "not a channel. Leave it out of `at`."
    )


def _by_weight(encoder: Encoder, places: Sequence[str]) -> dict[str, Answer]:
    """What layers without bias answer, where the kind of layer says it."""
    out = {}
    for place in places:
        site = encoder.sites.get(f"{place}.weight", encoder.sites.get(place))
        if place.split(".")[-1] in PARTS or site is None:
            continue
        shape = site.value.shape
        if isinstance(site.owner, nn.Embedding):
            out[place] = Answer(shape[1], -1)
        elif len(shape) in (2, 4) or place.startswith("text."):
            out[place] = Answer(shape[0], 1 if len(shape) == 4 else -1)
    return out


class _Film(nn.Module):
    """(1 + gain) y + shift, on a bias_O as well as on what a module answers."""

    def __init__(self, answer: Answer, device: torch.device) -> None:
        super().__init__()
        channels, self.axis = answer
        self.gain = nn.Parameter(torch.zeros(channels, device=device))
        # Minus zero is what leaves every number its bits: -0.0 + 0.0 would be 0.0.
        self.shift = nn.Parameter(torch.full((channels,), -0.0, device=device))

    def forward(self, y: Tensor) -> Tensor:
        shape = (-1, 1, 1) if self.axis == 1 else (-1,)
        return (1 + self.gain).reshape(shape) * y + self.shift.reshape(shape)


class _Rows(nn.Module):
    """(1 + gain) times the rows of a weight (O, ...)."""

    def __init__(self, film: _Film) -> None:
        super().__init__()
        self._film = (film,)  # in a tuple: read, and not registered a second time

    def forward(self, weight: Tensor) -> Tensor:
        return (1 + self._film[0].gain).reshape(-1, *[1] * (weight.ndim - 1)) * weight
