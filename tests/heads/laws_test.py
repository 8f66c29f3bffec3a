"""What every head with numbers of its own obeys, whatever its method."""

# B images, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.errors import ConfigError
from likewise.heads import (
    ClipAdapter,
    Cosine,
    Given,
    HeadConfig,
    HeadModule,
    Linear,
    LpPlus,
    Neighbours,
    Tip,
    text_head,
)

HEADS: tuple[HeadConfig, ...] = (
    Linear(), Linear(start="zeros", bias=False), Neighbours(k=3), Cosine(), Cosine(step=0.5), Cosine(anchor="clap"),
    ClipAdapter(), ClipAdapter(reduction=3, share=0.9), Tip(), Tip(tuned=True), LpPlus(),
)  # fmt: skip
each = pytest.mark.parametrize("config", HEADS, ids=lambda c: ",".join(map(str, c.tree().values()))[:40])


def train(head: HeadModule, given: Given, steps: int = 2) -> dict[str, Tensor]:
    """Plain gradient steps; the largest gradient that each number's tensor has seen."""
    seen = {name: torch.zeros_like(p) for name, p in head.named_parameters()}
    for _ in range(steps if seen else 0):
        head.zero_grad()
        loss = F.cross_entropy(head(given.features("shared")), given.labels_N)
        penalty = head.penalty()
        (loss if penalty is None else loss + penalty).backward()
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                assert parameter.grad is not None
                seen[name] = torch.maximum(seen[name], parameter.grad.abs())
                parameter -= 0.1 * parameter.grad
    return seen


@each
def test_counted_alive_and_moved(given_of: Callable[..., Given], config: HeadConfig) -> None:
    given = given_of()
    head = config.build(given)
    counts = {name: p.numel() for name, p in head.named_parameters() if p.requires_grad}
    assert counts == config.sizes(given.encoder, len(given.prompts), len(given.labels_N))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    seen = train(head, given)
    dead = [name for name, most in seen.items() if not (most.any() if config.kind == "clip-adapter" else most.all())]
    assert dead == []
    assert {name for name, value in head.state_dict().items() if not torch.equal(value, before[name])} == set(counts)


@each
def test_the_state_makes_the_head_again(given_of: Callable[..., Given], query_BD: Tensor, config: HeadConfig) -> None:
    given = given_of()
    head = config.build(given)
    train(head, given)
    head.choose(given.features("shared"), given.labels_N.roll(1))
    state = head.state_dict()
    again = type(config).parse(config.tree()).load(state, given.encoder, len(given.prompts))
    assert again.config == config
    assert torch.equal(again(query_BD), head(query_BD))
    assert again.state_dict().keys() == state.keys()
    shared = {t.data_ptr() for t in state.values()} & {t.data_ptr() for t in again.state_dict().values()}
    assert not shared or config.kind == "neighbours"  # whose bank never changes
    penalties = head.penalty(), again.penalty()
    assert penalties == (None, None) or torch.equal(*penalties)  # type: ignore[arg-type]


@each
def test_the_same_seed_gives_the_same_start(given_of: Callable[..., Given], config: HeadConfig) -> None:
    a, b, other = (config.build(given_of(seed=seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    drawn = {name for name in a if not torch.equal(a[name], other[name])}
    assert drawn == ({"down", "up"} if config.kind == "clip-adapter" else set())


@each
@pytest.mark.parametrize("shift", [0.0, -9.5])
def test_the_line_from_the_text_head(
    given_of: Callable[..., Given], query_BD: Tensor, config: HeadConfig, shift: float
) -> None:
    given = given_of()
    zero = text_head(given.encoder, given.prompts)
    with torch.no_grad():  # not the head that this one began from: the text tower, the scale or the shift have moved
        zero.weight += 0.1 * torch.randn(zero.weight.shape, generator=torch.Generator().manual_seed(4))
        zero.bias += shift
    head = config.build(given)
    train(head, given)
    if not config.has_path:
        with pytest.raises(ConfigError, match=config.refuses[:20]):
            head.at(0.5, zero)
        return
    assert torch.equal(head.at(0.0, zero)(query_BD), zero(query_BD))
    assert torch.equal(head.at(1.0, zero)(query_BD), head(query_BD))
    middle = head.at(0.5, zero)
    assert type(middle) is type(head)
    again = config.load(middle.state_dict(), given.encoder, len(given.prompts))
    assert torch.equal(again(query_BD), middle(query_BD))
    ends = zero(query_BD), head(query_BD)
    if config.kind != "cosine":  # whose rows keep their length on the way
        torch.testing.assert_close(middle(query_BD), 0.5 * ends[0] + 0.5 * ends[1])
    assert not any(torch.equal(middle(query_BD), end) for end in ends)
