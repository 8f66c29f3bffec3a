"""A pretrained encoder behind our names, and the three seams by which anything is added to it.

An `Encoder` returns what the towers return; unit length and temperature are the heads' and losses' business.
Nothing upstream is rewritten: a graft acts where a weight is read (`torch.nn.utils.parametrize`), in the place of a
child module that it calls, or as a hook on tokens; and every graft can be taken back.
"""

# B images, C channels, H height, W width of a picture or of pooled features, D shared width, L tokens.

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from likewise.config import Config, fingerprint
from likewise.errors import ConfigError


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

    @property
    def digest(self) -> str:
        """Identity apart from the name by which it was asked for."""
        return fingerprint({k: v for k, v in self.tree().items() if k != "name"})


class Embedded(NamedTuple):
    """One batch of pictures: `pooled_BW` before the projection (None where there is none), `shared_BD` after."""

    pooled_BW: Tensor | None
    shared_BD: Tensor


class Site(NamedTuple):
    """A place in the upstream model: attribute `attr` of module `owner`."""

    owner: nn.Module
    attr: str

    @property
    def value(self) -> Any:
        return getattr(self.owner, self.attr)


class Encoder(ABC):
    """A pretrained image-text model. Subclasses live in `encoders/`, one a library.

    `sites` maps our parameter names to places; it must cover every parameter exactly once. `children` maps our module
    names (`image.3.attention`, `image.3.mlp`, `image.3`) to places, for module and token grafts.
    """

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

    @abstractmethod
    def image(self, pixels_BCHW: Tensor) -> Embedded:
        """Pictures, normalised as `spec` says, to features."""

    @abstractmethod
    def text(self, tokens_BL: Tensor) -> Tensor:
        """Token ids to shared_BD."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts to token ids_BL at full context length. Longer texts are cut; `lengths` says how long they were."""

    @abstractmethod
    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens in each text before cutting, start and end included."""

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

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Our names to the parameters themselves, grafted ones excepted."""
        return {name: _original(site) for name, site in self.sites.items()}

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

    def blocks(self, tower: str) -> int:
        """How many transformer blocks a tower ("image" or "text") has; 0 for a tower without blocks."""
        numbers = {name.split(".")[1] for name in self.sites if name.startswith(tower + ".")}
        return sum(number.isdigit() for number in numbers)


def _original(site: Site) -> nn.Parameter:
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


class Grafts:
    """What was added to one encoder, by name, and how to take it back (`remove`, last in first out)."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._own: dict[str, nn.Parameter] = {}
        self._undo: list[Callable[[], None]] = []

    def weight(self, name: str, site: Site, transform: nn.Module) -> None:
        """Where the weight at `site` is read, `transform` of it is read. Works for packed q, k, v as for any tensor."""
        self._claim(name)
        training = {m: m.training for m in site.owner.modules()}
        order = list(site.owner._parameters)
        parametrize.register_parametrization(site.owner, site.attr, transform)
        for module, mode in training.items():
            module.train(mode)
        self._add(name, transform, lambda: self._unweight(site, order))

    @staticmethod
    def _unweight(site: Site, order: Sequence[str]) -> None:
        # Removal would put back f(original) or `original` by rewriting the class; the stack may hold several grafts.
        stack: Any = site.owner.parametrizations[site.attr]  # type: ignore[index, union-attr]
        if len(stack) > 1:
            del stack[-1]
        else:
            parametrize.remove_parametrizations(site.owner, site.attr, leave_parametrized=False)
            own = site.owner._parameters
            for key in [key for key in order if key in own]:  # it came back as the last one
                own[key] = own.pop(key)

    def module(self, name: str, site: Site, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """In the place of the child at `site` stands `wrap(child)`, which calls it."""
        self._claim(name)
        inside: nn.Module = site.value
        outside = wrap(inside)
        outside.train(inside.training)
        setattr(site.owner, site.attr, outside)
        self._add(name, outside, lambda: setattr(site.owner, site.attr, inside), skip=inside)

    def token(
        self, name: str, site: Site, carrier: nn.Module, hook: Callable[..., Any], *, before: bool = False
    ) -> None:
        """`hook` sees, and may replace, what enters or leaves the module at `site`; `carrier` owns its numbers."""
        self._claim(name)
        target: nn.Module = site.value
        handle: RemovableHandle = (
            target.register_forward_pre_hook(hook) if before else target.register_forward_hook(hook)
        )
        self._add(name, carrier, handle.remove)

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise ConfigError(f"two grafts are called «{name}»; names tell their numbers apart in the saved file.")

    def _add(self, name: str, module: nn.Module, undo: Callable[[], None], skip: nn.Module | None = None) -> None:
        self._names.add(name)
        self._undo.append(undo)
        inner = {id(p) for p in skip.parameters()} if skip is not None else set()
        self._own |= {f"graft.{name}.{key}": p for key, p in module.named_parameters() if id(p) not in inner}

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """`graft.<name>.<parameter>` to parameter; the wrapped originals are not among them."""
        return dict(self._own)

    def remove(self) -> None:
        """Take everything back: modules, classes, names and values are as before."""
        while self._undo:
            self._undo.pop()()
        self._names.clear()
        self._own.clear()

    @contextlib.contextmanager
    def cached(self) -> Iterator[None]:
        """Inside, each grafted weight is computed once however often it is read."""
        with parametrize.cached():
            yield
