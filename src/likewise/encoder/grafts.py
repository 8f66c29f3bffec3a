"""The three seams by which anything is added to an encoder, and how it is taken back.

A graft acts where a weight is read (`torch.nn.utils.parametrize`), in the place of a child module that it calls, or as
a hook on tokens. Nothing upstream is rewritten, and every graft can be removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from likewise.encoder.spec import Site
from likewise.errors import ConfigError


class Grafts:
    """What was added to one encoder, by name, and how to take it back (`remove`, last in first out).

    A name begins with the adapter's kind and the tower that it changes (`lora.image.3.qkv`), or `both`.
    """

    def __init__(self) -> None:
        self.seams: dict[str, str] = {}
        """Name to seam: "weight", "module", "token", or "shared" for numbers that several grafts read."""
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
        self._add("weight", name, transform, lambda: self._unweight(site, order))

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
        self._add("module", name, outside, lambda: setattr(site.owner, site.attr, inside), skip=inside)

    def token(
        self, name: str, site: Site, carrier: nn.Module, hook: Callable[..., Any], *, before: bool = False
    ) -> None:
        """`hook` sees, and may replace, what enters or leaves the module at `site`; `carrier` owns its numbers."""
        self._claim(name)
        target: nn.Module = site.value
        handle: RemovableHandle = (
            target.register_forward_pre_hook(hook) if before else target.register_forward_hook(hook)
        )
        self._add("token", name, carrier, handle.remove)

    def shared(self, name: str, carrier: nn.Module) -> None:
        """Numbers that several grafts read: registered here, once, and by none of those that read them."""
        self._claim(name)
        self._add("shared", name, carrier, lambda: None)

    def _claim(self, name: str) -> None:
        if name in self.seams:
            kind, _, place = name.partition(".")
            raise ConfigError(
                f"two grafts are called «{name}»: two {kind} adapters would stand at {place}, and names tell their "
                "numbers apart in the saved file. Give them different places (`at`), or use one of them."
            )

    def _add(
        self, seam: str, name: str, module: nn.Module, undo: Callable[[], None], skip: nn.Module | None = None
    ) -> None:
        self.seams[name] = seam
        self._undo.append(undo)
        inner = {id(p) for p in skip.parameters()} if skip is not None else set()
        self._own |= {f"adapters.{name}.{key}": p for key, p in module.named_parameters() if id(p) not in inner}

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """`adapters.<name>.<parameter>` to parameter; the wrapped originals are not among them."""
        return dict(self._own)

    def remove(self) -> None:
        """Take everything back: modules, classes, names and values are as before."""
        while self._undo:
            self._undo.pop()()
        self.seams.clear()
        self._own.clear()

    @contextlib.contextmanager
    def cached(self) -> Iterator[None]:
        """Inside, each grafted weight is computed once however often it is read."""
        with parametrize.cached():
            yield
