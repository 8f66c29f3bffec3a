"""What every adapter owes, one function a law, for adapters that are silent at birth."""

# B images, D shared width.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from likewise.adapters import AdapterConfig, grafted
from likewise.encoder import Encoder
from likewise.keys import key_rng
from tiny import alive_of, everything, pixels


def answers(encoder: Encoder) -> tuple[Tensor, Tensor]:
    tokens_BL = encoder.tokenize(["red", "one very blue thing"])
    return encoder.image(pixels(encoder)).shared_BD, encoder.text(tokens_BL)


def same(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@torch.no_grad()
def stir(encoder: Encoder, std: float = 0.2) -> dict[str, nn.Parameter]:
    """The grafted numbers, away from where they start."""
    mine = encoder.grafts.parameters_by_name()
    for name, parameter in mine.items():
        noise = key_rng("stir", name).standard_normal(tuple(parameter.shape))
        parameter.add_(std * torch.from_numpy(noise).float())
    return mine


@torch.no_grad()
def scale(encoder: Encoder, config: AdapterConfig, alpha: float) -> None:
    """To the point at alpha on the way from the pretrained model."""
    for name, parameter in encoder.grafts.parameters_by_name().items():
        if config.in_line(name):
            parameter.mul_(alpha)


def check_silent(encoder: Encoder, config: AdapterConfig) -> None:
    """Bit for bit the same answers, in fp32 and in bf16, with and without gradients; and the same weights, folded."""
    for gradient in (True, False):
        for half in (True, False):
            # Torch chooses a kernel by whether a weight wants a gradient, so like is compared with like.
            encoder.module.requires_grad_(gradient)
            with torch.set_grad_enabled(gradient), torch.autocast("cpu", torch.bfloat16, enabled=half):
                before = answers(encoder)
                with grafted(encoder, (config,)):
                    assert encoder.grafts.parameters_by_name()
                    after = answers(encoder)
                    with encoder.grafts.cached():
                        cached = answers(encoder)
                    folded, plain = encoder.folded(), encoder.state()
            assert same(before, after), f"gradient {gradient}, half {half}"
            assert same(before, cached)
            for name, weight in folded.items():
                assert torch.equal(weight.view(torch.int32), plain[name].view(torch.int32)), name
    encoder.module.requires_grad_(False)


def check_removed(encoder: Encoder, config: AdapterConfig) -> None:
    """What was there is there again: modules, classes, order, hooks, values; and the names can be given again."""

    def anatomy() -> list[Any]:
        return [
            (name, id(m), type(m), m.training, list(m._parameters), len(m._forward_hooks), len(m._forward_pre_hooks))
            for name, m in encoder.module.named_modules()
        ]

    before, values = anatomy(), everything(encoder)
    ids = {name: id(p) for name, p in encoder.parameters_by_name().items()}
    with torch.no_grad():
        said = answers(encoder)
    for _ in range(2):
        with grafted(encoder, (config,)), torch.no_grad():
            assert anatomy() != before
            stir(encoder)
            assert not same(said, answers(encoder))
        assert anatomy() == before
        assert {name: id(p) for name, p in encoder.parameters_by_name().items()} == ids
        after = everything(encoder)
        assert list(after) == list(values)
        assert all(torch.equal(after[name], value) for name, value in values.items())
        with torch.no_grad():
            assert same(said, answers(encoder))


def check_alive(encoder: Encoder, config: AdapterConfig) -> None:
    """Within two steps each tensor has had a gradient that is not zero, and nothing pretrained has moved."""
    before = encoder.state()
    with grafted(encoder, (config,)):
        mine = encoder.grafts.parameters_by_name()
        assert alive_of(mine, lambda: answers(encoder)) == set(mine)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state().items())


def check_keyed(encoder: Encoder, config: AdapterConfig) -> None:
    """The seed decides the start, the global generator neither decides nor moves; each number is stored once."""
    starts = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        state = torch.random.get_rng_state()
        with grafted(encoder, (config,), seed):
            assert torch.equal(torch.random.get_rng_state(), state)
            mine = encoder.grafts.parameters_by_name()
            assert len({id(p) for p in mine.values()}) == len(mine)
            starts.append(from_bytes(to_bytes({name: p.detach() for name, p in mine.items()})))  # refuses aliases
    first, second, other = starts
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) == (not first[name].any()) for name in first)  # zeros are zeros


def check_alpha(encoder: Encoder, config: AdapterConfig, tuned: Callable[[], Tensor]) -> None:
    """What `tuned` reads is on a straight line in alpha, and at alpha 1 and 0 it is at the ends, bit for bit."""
    start = tuned()
    with grafted(encoder, (config,)), torch.no_grad():
        stir(encoder)
        end = tuned()
        scale(encoder, config, 1.0)
        assert torch.equal(tuned(), end)
        scale(encoder, config, 0.5)
        torch.testing.assert_close(tuned(), (start + end) / 2)
        scale(encoder, config, 0.5)
        torch.testing.assert_close(tuned(), 0.75 * start + 0.25 * end)
        scale(encoder, config, 0.0)
        assert torch.equal(tuned(), start)
    assert not torch.allclose(start, end)


def count(encoder: Encoder, config: AdapterConfig) -> int:
    """How many numbers it adds."""
    with grafted(encoder, (config,)):
        return sum(p.numel() for p in encoder.grafts.parameters_by_name().values())
