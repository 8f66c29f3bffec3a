"""The three seams: silent at birth, alive in training, and taken back without a trace."""

# B images, L tokens, W width.

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from tiny import alive_of, everything, pixels

KINDS = ("plain", "icon", "custom")


class Low(nn.Module):
    """A low-rank sum on a weight; silent because one factor starts at zero."""

    def __init__(self, weight: Tensor, rank: int = 2) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns, generator=torch.Generator().manual_seed(1)))
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


class Beside(nn.Module):
    """A child and a small residual of its answer; silent because the last matrix starts at zero."""

    def __init__(self, inside: nn.Module, width: int) -> None:
        super().__init__()
        self.inside = inside
        self.down = nn.Linear(width, 3)
        self.up = nn.Linear(3, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BLW: Tensor) -> Tensor:
        x_BLW = self.inside(x_BLW)
        return x_BLW + self.up(torch.tanh(self.down(x_BLW)))


class Shift(nn.Module):
    """A vector added to every token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))


def graft_all(encoder: Encoder, grafts: Grafts | None = None) -> Grafts:
    """Two weights stacked on packed q, k, v, a module around the MLP, hooks around a block; in both towers."""
    grafts = grafts or Grafts()
    for tower in ("image", "text"):
        qkv = encoder.sites[f"{tower}.0.qkv.weight"]
        width = qkv.value.shape[1]
        grafts.weight(f"{tower}.first", qkv, Low(qkv.value))
        grafts.weight(f"{tower}.second", qkv, Low(qkv.value, 1))
        grafts.weight(f"{tower}.out", encoder.sites[f"{tower}.1.out.weight"], Low(torch.empty(width, width)))
        grafts.module(f"{tower}.beside", encoder.children[f"{tower}.0.mlp"], lambda m, w=width: Beside(m, w))  # type: ignore[misc]
        before, after = Shift(width), Shift(width)
        place = encoder.children[f"{tower}.1.block"]
        grafts.token(f"{tower}.before", place, before, lambda m, x, s=before: (x[0] + s.vector, *x[1:]), before=True)
        grafts.token(f"{tower}.after", place, after, lambda m, x, y, s=after: y + s.vector)
    return grafts


def answers(encoder: Encoder) -> tuple[Tensor, Tensor]:
    tokens_BL = encoder.tokenize(["red", "one very blue thing"])
    return encoder.image(pixels(encoder)).shared_BD, encoder.text(tokens_BL)


def anatomy(encoder: Encoder) -> Iterator[tuple[str, int, type, bool, list[str]]]:
    """Every module with its identity, class, mode and the names of its own parameters in order."""
    for name, module in encoder.module.named_modules():
        yield name, id(module), type(module), module.training, list(module._parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("gradient", [True, False])
def test_silent_birth(encoder_of: Callable[[str], Encoder], kind: str, mode: str, gradient: bool) -> None:
    encoder = encoder_of(kind)
    encoder.module.train(mode == "train")
    # Torch chooses a kernel by whether a weight wants a gradient, so like is compared with like: a grafted weight does.
    encoder.module.requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        before = answers(encoder)
        grafts = graft_all(encoder)
        after = answers(encoder)
        with grafts.cached():
            cached = answers(encoder)
    modes = {m.training for m in encoder.module.modules()}
    grafts.remove()
    encoder.module.eval().requires_grad_(False)
    assert modes == {mode == "train"}
    for a, b, c in zip(before, after, cached, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("kind", KINDS)
def test_clean_removal(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    modules, values = list(anatomy(encoder)), everything(encoder)
    parameters = {name: id(p) for name, p in encoder.parameters_by_name().items()}
    with torch.no_grad():
        before = answers(encoder)
    grafts = graft_all(encoder)
    assert list(anatomy(encoder)) != modules
    # our names still lead to the pretrained numbers, and the grafted ones are elsewhere
    assert {name: id(p) for name, p in encoder.parameters_by_name().items()} == parameters
    with torch.no_grad():
        for parameter in grafts.parameters_by_name().values():
            parameter.add_(0.1)
        assert not any(torch.equal(a, b) for a, b in zip(before, answers(encoder), strict=True))
    grafts.remove()
    assert list(anatomy(encoder)) == modules
    assert {name: id(p) for name, p in encoder.parameters_by_name().items()} == parameters
    assert list(everything(encoder)) == list(values)
    assert all(torch.equal(value, values[name]) for name, value in everything(encoder).items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.module.modules())
    assert grafts.parameters_by_name() == {}
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(before, answers(encoder), strict=True))
    grafts.remove()  # a second time: nothing to do
    graft_all(encoder, grafts)  # and the names are free again
    grafts.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_alive_and_held(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    before = encoder.state()
    grafts = graft_all(encoder)
    mine = grafts.parameters_by_name()
    assert not {id(p) for p in mine.values()} & {id(p) for p in encoder.parameters_by_name().values()}
    for parameter in encoder.parameters_by_name().values():
        parameter.requires_grad_(False)
    alive = alive_of(mine, lambda: answers(encoder))
    grafts.remove()
    assert alive == set(mine)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state().items())


def test_stacked_grafts_on_one_weight_add_up(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    site = encoder.sites["image.0.qkv.weight"]
    base = site.value.detach().clone()
    first, second = Low(base), Low(base, 1)
    nn.init.ones_(first.up)
    nn.init.ones_(second.up)
    grafts = Grafts()
    grafts.weight("a", site, first)
    grafts.weight("b", site, second)
    want = base + first.up @ first.down + second.up @ second.down
    torch.testing.assert_close(site.value, want)
    assert sorted(grafts.parameters_by_name()) == [
        "adapters.a.down",
        "adapters.a.up",
        "adapters.b.down",
        "adapters.b.up",
    ]
    encoder.put({"image.0.qkv.weight": 2 * base})  # by our name, under the grafts
    torch.testing.assert_close(site.value, want + base)
    encoder.put({"image.0.qkv.weight": base})
    grafts.remove()
    assert torch.equal(site.value, base)


@pytest.mark.parametrize("seam", ["weight", "module", "token"])
def test_a_name_given_twice_is_refused_and_changes_nothing(encoder_of: Callable[[str], Encoder], seam: str) -> None:
    encoder = encoder_of("plain")
    untouched = list(anatomy(encoder))
    grafts = Grafts()
    qkv, mlp = encoder.sites["image.0.qkv.weight"], encoder.children["image.0.mlp"]
    grafts.weight("a", encoder.sites["image.1.qkv.weight"], Low(qkv.value))
    modules = list(anatomy(encoder))
    with pytest.raises(ConfigError, match="two grafts are called «a»"):  # noqa: PT012
        if seam == "weight":
            grafts.weight("a", qkv, Low(qkv.value))
        elif seam == "module":
            grafts.module("a", mlp, lambda m: Beside(m, 32))
        else:
            grafts.token("a", mlp, Shift(32), lambda m, x, y: y)
    assert list(anatomy(encoder)) == modules
    assert not mlp.value._forward_hooks
    grafts.remove()
    assert list(anatomy(encoder)) == untouched


def test_the_wrapped_childs_numbers_are_not_the_grafts(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    grafts = Grafts()
    grafts.module("m", encoder.children["image.0.mlp"], lambda m: Beside(m, 32))
    found = {name: p.numel() for name, p in grafts.parameters_by_name().items()}
    grafts.remove()
    assert found == {
        "adapters.m.down.weight": 96,
        "adapters.m.down.bias": 3,
        "adapters.m.up.weight": 96,
        "adapters.m.up.bias": 32,
    }
