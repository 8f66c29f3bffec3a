"""A vision encoder with a text tower beside it: two models that never met, and a new projection between them.

LiT (Zhai et al. 2022, arXiv:2111.07991) put a text tower to a held image tower; here either may be held or trained. The
shared space is the text tower's own, so that texts need nothing new: pictures are projected into it.
"""

# B images, D shared width, L tokens, W width of the image tower's features.

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from likewise.encoder import Embedded, Encoder, EncoderSpec, Site, weights_hash
from likewise.errors import ConfigError
from likewise.keys import normal

SCALE = math.log(1 / 0.07)
"""Where the scale's logarithm starts, as CLIP's did (Radford et al. 2021, section 2.5). The shift starts at 0: softmax
losses do not see it, and the sigmoid loss has starts of its own for both (`losses.Sigmoid`)."""


class Pair(Encoder):
    """`image` looks at pictures, `text` reads; new are `image.projection` (W x D), `scale` and `shift`.

    Neither part is copied: what the pair trains, they are trained in, and a CLIP given for its text tower has no image
    tower afterwards. Raises `ConfigError` M03 where a part lacks its tower, or the image encoder has a text tower of
    its own.

    Departs: LiT's scale starts at 10; both towers keep their own preprocessing and tokenizer.
    """

    def __init__(self, image: Encoder, text: Encoder) -> None:
        if not image.has("image"):
            raise ConfigError(f"{image.spec.name} has no image tower; name a vision encoder, like timm:...", "M03")
        if not text.has("text"):
            raise ConfigError(
                f"{text.spec.name} has no text tower; name an encoder of texts for --text, like "
                "open_clip:ViT-B-32/openai or st:all-MiniLM-L6-v2.", "M03"
            )  # fmt: skip
        if image.has("text"):
            raise ConfigError(
                f"{image.spec.name} has a text tower of its own, and pictures and texts share a space there already. "
                "Leave --text out.", "M03"
            )  # fmt: skip
        self._image, self._text = image, text
        sites = {name: site for name, site in image.sites.items() if name.startswith("image.")}
        sites |= {name: site for name, site in text.sites.items() if name.startswith("text.")}
        children = {name: place for name, place in image.children.items() if name.startswith("image.")}
        children |= {name: place for name, place in text.children.items() if name.startswith("text.")}
        self._bridge = _Bridge(image.pooled_width, text.shared_width)
        sites |= {
            "image.projection": Site(self._bridge, "projection"),
            "scale": Site(self._bridge, "scale"),
            "shift": Site(self._bridge, "shift"),
        }
        module = nn.ModuleDict({"image": image.module, "text": _only_text(text), "bridge": self._bridge})
        super().__init__(_spec(image, text), module, sites, children)
        if image.spec.weights and text.spec.weights:
            self.spec = self.spec.model_copy(update={"weights": self.weights_now()})
        self.rate_scale = image.rate_scale

    def weights_now(self) -> str:
        """Of the image encoder and of the text tower; what is new is no part of it."""
        read = {name: p for name, p in self._text.parameters_by_name().items() if name.startswith("text.")}
        return weights_hash({"image": _bytes(self._image.weights_now()), "text": _bytes(weights_hash(read))})

    @property
    def new(self) -> frozenset[str]:
        return frozenset({"image.projection", "scale", "shift"})

    def image(self, pixels_BCHW: Tensor) -> Embedded:
        pooled_BW = self._image.image(pixels_BCHW).pooled_BW
        assert pooled_BW is not None, "an encoder of pictures alone has nothing but these"
        return Embedded(pooled_BW, self.project(pooled_BW))

    def project(self, pooled_BW: Tensor) -> Tensor:
        return pooled_BW @ self._bridge.projection

    def text(self, tokens_BL: Tensor) -> Tensor:
        return self._text.text(tokens_BL)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self._text.tokenize(texts)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return self._text.lengths(texts)

    def write(self, folder: Path) -> None:
        self._image.write(folder)

    @property
    def vision(self) -> Encoder:
        """The image encoder alone, as it now is."""
        return self._image

    @property
    def reader(self) -> Encoder:
        """The text encoder alone."""
        return self._text

    @property
    def shared_width(self) -> int:
        return self._text.shared_width

    @property
    def pooled_width(self) -> int:
        return self._image.pooled_width


class _Bridge(nn.Module):
    """What is new: the same start for the same widths."""

    def __init__(self, width: int, shared: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(normal((width, shared), width**-0.5, "pair", "projection"))
        self.scale = nn.Parameter(torch.tensor(SCALE))
        self.shift = nn.Parameter(torch.zeros(()))


def _only_text(text: Encoder) -> nn.Module:
    """The text encoder's module without what belongs to its image tower."""
    theirs = {id(site.value) for name, site in text.sites.items() if not name.startswith("text.")}
    for key, child in list(text.module.named_children()):
        own = [id(p) for p in child.parameters()]
        if own and all(p in theirs for p in own):
            setattr(text.module, key, nn.Identity())
    for key, p in list(text.module.named_parameters(recurse=False)):
        if id(p) in theirs:
            setattr(text.module, key, None)
    return text.module


def _spec(image: Encoder, text: Encoder) -> EncoderSpec:
    return image.spec.model_copy(update={
        "family": "pair",
        "name": f"{image.spec.name} + {text.spec.name}",
        "config": {"image": image.spec.tree(), "text": text.spec.tree()},
        "weights": "",
        "context": text.spec.context,
    })  # fmt: skip


def _bytes(digest: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(digest)))
