"""A pretrained encoder behind our names, and the three seams by which anything is added to it.

An `Encoder` returns what the towers return; unit length and temperature are the heads' and losses' business.
"""

# B images, C channels, H height, W width of a picture or of pooled features, D shared width, L tokens.

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from likewise.encoder.grafts import Grafts
from likewise.encoder.spec import LEARNED, Embedded, EncoderSpec, Site, learned, original, weights_hash
from likewise.errors import ConfigError

__all__ = ["LEARNED", "Embedded", "Encoder", "EncoderSpec", "Grafts", "Site", "learned", "weights_hash"]


class Encoder(ABC):
    """A pretrained encoder: of pictures and texts, or of one of the two. Subclasses live in `encoders/`, one a library.

    `sites` maps our parameter names to places; it must cover every parameter exactly once. `children` maps our module
    names (`image.3.block`, `image.3.attention`, `image.3.mlp`, `image.3.norm1`, `image.patch`, `text.tokens`) to
    places, for module and token grafts.
    """

    names: Mapping[str, str] = MappingProxyType({})
    """The library's own names of what is stored, parameters and buffers, to ours; a subclass for a library sets it."""

    def __init__(
        self, spec: EncoderSpec, module: nn.Module, sites: Mapping[str, Site], children: Mapping[str, Site]
    ) -> None:
        covered = {id(site.value) for site in sites.values()}
        missing = [name for name, p in module.named_parameters() if id(p) not in covered]
        if missing or len(covered) != len(sites):
            raise ConfigError(
                f"{spec.name}: our names do not cover its parameters one to one; left over: {missing[:5]}."
            )
        self.spec = spec
        self.rate_scale = 1.0
        """Factor on the named recipes' learning rates: 1 for the sizes of encoder that the papers' rates are for."""
        # Frozen at rest: whether a weight requires a gradient can decide which kernel multiplies, hence the last bit.
        self.module = module.eval().requires_grad_(False)
        self.sites = dict(sites)
        self.children = dict(children)
        self.grafts = Grafts()
        """What is added at the moment; its numbers are among the encoder's, named `adapters.*`."""
        self.told: Tensor | None = None
        """told_BD inside `telling`, for adapters that read captions; None whenever pictures speak for themselves."""

    def image(self, pixels_BCHW: Tensor) -> Embedded:
        """Pictures, normalised as `spec` says, to features. Raises `ConfigError` where there is no image tower.

        Without a shared space `shared_BD` is `pooled_BW`.
        """
        raise ConfigError(f"{self.spec.name} has no image tower, so it cannot look at pictures.", "M03")

    def project(self, pooled_BW: Tensor) -> Tensor:
        """Features before the projection to shared_BD. Raises `ConfigError` where there are none."""
        raise ConfigError(f"{self.spec.name} gives no features before its projection; use sampling: images.")

    def text(self, tokens_BL: Tensor) -> Tensor:
        """Token ids to shared_BD. Raises `ConfigError` where there is no text tower."""
        raise ConfigError(self._textless, "M03")

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts to token ids_BL at full context length. Longer texts are cut; `lengths` says how long they were.

        A `learned` character becomes its negative id, which only a graft on `text.tokens` can read. Raises
        `ConfigError` where there is no text tower.
        """
        raise ConfigError(self._textless, "M03")

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens in each text before cutting, start and end included. Raises `ConfigError` as `text` does."""
        raise ConfigError(self._textless, "M03")

    @property
    def _textless(self) -> str:
        return (
            f"{self.spec.name} has no text tower, so classes cannot be told to it by name. Put one beside it: "
            "likewise caption ... --text open_clip:ViT-B-32/openai."
        )

    @contextlib.contextmanager
    def telling(self, told_BD: Tensor) -> Iterator[None]:
        """Inside, unit rows of texts are said of the pictures of a batch, one each; zeros where nothing is said."""
        self.told = told_BD
        try:
            yield
        finally:
            self.told = None

    def has(self, tower: str) -> bool:
        """Whether there is such a tower ("image" or "text")."""
        return any(name.startswith(tower + ".") for name in self.sites)

    @property
    def new(self) -> frozenset[str]:
        """Parameters that no pretraining has seen: a path to the pretrained weights leaves them where they end."""
        return frozenset()

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def scale(self) -> Tensor:
        """The factor on cosines: exp of the parameter `scale`; a scalar with gradient."""
        site = self.sites["scale"]
        return torch.as_tensor(site.value).float().exp().reshape(())

    @property
    def shift(self) -> Tensor:
        """What sigmoid-trained models add to logits; 0 for the others."""
        if "shift" not in self.sites:
            return torch.zeros((), device=self.device)
        return torch.as_tensor(self.sites["shift"].value).float().reshape(())

    @property
    @abstractmethod
    def shared_width(self) -> int:
        """D: how wide the space that both towers share is."""

    @property
    @abstractmethod
    def pooled_width(self) -> int:
        """W: how wide features before the projection are. Raises `ConfigError` where there are none."""

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Our names to the parameters themselves, then what is grafted, by its names."""
        return {name: original(site) for name, site in self.sites.items()} | self.grafts.parameters_by_name()

    def content(self) -> str:
        """SHA-256 of every number and buffer as it now is, grafts included: what decides the answers."""
        return weights_hash({**self.module.state_dict(), **self.grafts.parameters_by_name()})

    def weights_now(self) -> str:
        """The hash that `spec.weights` was when it was loaded, of what is in it now; without grafts."""
        own = self.module.state_dict()
        return weights_hash({ours: own[upstream] for upstream, ours in self.names.items()})

    def folded(self) -> dict[str, Tensor]:
        """The weights that something is grafted on, as they are now read, by our names."""
        on = (name for name, site in self.sites.items() if parametrize.is_parametrized(site.owner, site.attr))
        return {name: self.sites[name].value.detach().clone() for name in on}

    def state(self, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """A copy of the named parameters (all by default), detached."""
        mine = self.parameters_by_name()
        return {name: mine[name].detach().clone() for name in (mine if names is None else names)}

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Write values into parameters, in place, by our names."""
        mine = self.parameters_by_name()
        for name, value in values.items():
            if mine[name].shape != value.shape:
                raise ConfigError(f"{name} is {tuple(mine[name].shape)} here and {tuple(value.shape)} there.", "M02")
            mine[name].copy_(value)

    def write(self, folder: Path) -> None:
        """The model as it now is, as its own library's folder: grafts on weights folded in, the others left out.

        For a pair, the image encoder. Raises `ConfigError` for an encoder that cannot be written.
        """
        raise ConfigError(f"{self.spec.name} cannot be written as a folder.", "M02")

    def blocks(self, tower: str) -> int:
        """How many transformer blocks a tower ("image" or "text") has; 0 for a tower without blocks."""
        numbers = {name.split(".")[1] for name in self.sites if name.startswith(tower + ".")}
        return sum(number.isdigit() for number in numbers)
