"""Bottlenecks behind, beside and after sub-layers, against the same sums in NumPy."""

# B texts or pictures, L tokens, W width of a tower.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor

from adapter_laws import answers, check_alive, check_alpha, check_keyed, check_removed, check_silent, count, stir
from likewise.adapters import Bottleneck, grafted
from likewise.encoder import Encoder
from likewise.errors import ConfigError

Encoders = Callable[[str], Encoder]
KIM = Bottleneck()
HOULSBY = Bottleneck(at=("text.*.attention", "text.*.mlp"), width=12, activation="relu")  # fewer might all be off
PFEIFFER = Bottleneck(at=("text.*.block", "image.*.block"), width=5, activation="tanh")
HE = Bottleneck(at=("text.0.attention", "image.*.mlp", "image.-1.attention"), width=4, where="parallel", factor=4.0)
BOTH = Bottleneck(at=("text.*.mlp", "image.*.mlp"), width=2, factor=0.25)
CASES = [(kind, config) for kind in ("plain", "icon", "custom") for config in (KIM, HOULSBY, PFEIFFER, HE, BOTH)]
CASES += [("resnet", HOULSBY)]
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
}


@pytest.mark.parametrize(("kind", "config"), CASES)
def test_laws(encoder_of: Encoders, kind: str, config: Bottleneck) -> None:
    encoder = encoder_of(kind)
    check_silent(encoder, config)
    check_removed(encoder, config)
    check_alive(encoder, config)
    check_keyed(encoder, config)


def first(answer: Tensor | tuple[Tensor, ...]) -> Tensor:
    return (answer[0] if isinstance(answer, tuple) else answer).detach().clone()


def watched(encoder: Encoder, config: Bottleneck, place: str) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """The numbers of the graft at a place; and there what went in, the module's own answer, and the answer with it."""
    child, seen = encoder.children[place].value, []
    inner = child.register_forward_hook(lambda m, x, y: seen.extend([x[0].detach().clone(), first(y)]))
    with grafted(encoder, (config,)), torch.no_grad():
        numbers = {name: p.detach().double().numpy().copy() for name, p in stir(encoder).items()}
        outer = child.register_forward_hook(lambda m, x, y: seen.append(first(y)))
        answers(encoder)
        outer.remove()
    inner.remove()
    front = f"adapters.bottleneck.{place}."
    assert len(seen) == 3
    return (
        {name.removeprefix(front): value for name, value in numbers.items() if name.startswith(front)},
        [value.double().numpy() for value in seen],
    )


@pytest.mark.parametrize("place", ["text.1.mlp", "text.0.attention", "image.1.block", "image.0.attention"])
@pytest.mark.parametrize("where", ["after", "parallel"])
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
@pytest.mark.parametrize("kind", ["plain", "icon"])
def test_it_adds_what_the_formula_says(
    encoder_of: Encoders, kind: str, place: str, where: str, activation: str
) -> None:
    config = Bottleneck.parse({"at": [place], "width": 6, "where": where, "activation": activation, "factor": 0.5})
    n, (x, y, got) = watched(encoder_of(kind), config, place)
    read = x if where == "parallel" else y
    hidden = ACTIVATIONS[activation](read @ n["down.weight"].T + n["down.bias"])
    want = y + 0.5 * (hidden @ n["up.weight"].T + n["up.bias"])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert np.abs(got - y).max() > 0.05


def test_a_block_is_read_after_both_sums(encoder_of: Encoders) -> None:
    """The place `block` answers with the stream, so what is read there includes what went in."""
    block = encoder_of("plain").children["text.0.block"].value
    _, (x, y, _) = watched(encoder_of("plain"), PFEIFFER, "text.0.block")
    x_BLW = torch.from_numpy(x).float()
    mask_LL = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
    with torch.no_grad():
        middle_BLW = x_BLW + block.attn(*[block.ln_1(x_BLW)] * 3, attn_mask=mask_LL, need_weights=False)[0]
        end_BLW = middle_BLW + block.mlp(block.ln_2(middle_BLW))
    np.testing.assert_allclose(y, end_BLW.numpy(), rtol=1e-4, atol=1e-5)


def test_attention_keeps_the_rest_of_its_answer(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    attention = encoder.children["text.0.attention"].value
    x_BLW = torch.ones(1, 3, 16)
    with torch.no_grad():
        _, weights = attention(x_BLW, x_BLW, x_BLW)
        with grafted(encoder, (HOULSBY,)):
            answer = attention(x_BLW, x_BLW, x_BLW)
    assert len(answer) == 2
    assert torch.equal(answer[1], weights)


@pytest.mark.parametrize("config", [KIM, HE.model_copy(update={"at": ("text.1.mlp",)})])
def test_the_way_from_the_pretrained_model_is_straight_in_what_it_adds(
    encoder_of: Encoders, config: Bottleneck
) -> None:
    encoder = encoder_of("plain")
    mlp, x_BLW = encoder.children["text.1.mlp"].value, torch.linspace(-1, 1, 48).reshape(1, 3, 16)
    check_alpha(encoder, config, lambda: mlp(x_BLW).detach())


def test_start(encoder_of: Encoders) -> None:
    """down is uniform in 1 / sqrt(inputs), the rest zero; places and seeds differ."""
    with grafted(encoder_of("icon"), (Bottleneck(at=("image.*.mlp",), width=64),), seed=3):
        start = {n: p.detach() for n, p in encoder_of("icon").grafts.parameters_by_name().items()}
    down = [p for n, p in start.items() if n.endswith("down.weight")]
    assert all(not p.any() for n, p in start.items() if not n.endswith("down.weight"))
    assert all(0.99 / 192**0.5 < p.abs().max() < 1 / 192**0.5 for p in down)
    assert all(abs(p.square().mean() * 192 * 3 - 1) < 0.05 for p in down)
    assert not torch.equal(down[0], down[1])


def test_counts(encoder_of: Encoders, vit_b_16: Encoder) -> None:
    assert count(vit_b_16, KIM) == 301_344
    assert count(vit_b_16, Bottleneck(at=("image.*.mlp",))) == 451_872
    assert count(vit_b_16, Bottleneck(at=("image.*.block", "text.*.block"))) == 753_216
    assert count(vit_b_16, Bottleneck(at=("text.*.mlp", "text.*.attention"))) == 2 * 301_344
    assert count(encoder_of("icon"), PFEIFFER) == 2 * (2 * 16 * 5 + 5 + 16) + 6 * (2 * 192 * 5 + 5 + 192)


def test_names(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    with grafted(encoder, (Bottleneck(at=("text.-1.mlp",)),)):
        assert list(encoder.grafts.parameters_by_name()) == [
            f"adapters.bottleneck.text.1.mlp.{name}" for name in ("down.weight", "down.bias", "up.weight", "up.bias")
        ]


def test_what_cannot_be_says_why(encoder_of: Encoders) -> None:
    for kind, at, why in (
        ("resnet", "image.*.mlp", "image.*mlp.*image tower has no transformer blocks.*Places for it here: none"),
        ("plain", "text.*.mpl", "Did you mean text.*mlp"),
        ("plain", "text.*.norm1", "no place «text.*norm1».*Places for it here: text.0.block"),
        ("plain", "text.-3.mlp", "no place «text.-3.mlp»"),
    ):
        encoder = encoder_of(kind)
        with pytest.raises(ConfigError, match=why), grafted(encoder, (Bottleneck(at=("text.*.mlp", at)),)):
            pass
        assert not any(m._forward_hooks for m in encoder.module.modules())
    with (
        pytest.raises(ConfigError, match=r"two grafts are called «bottleneck\.text\.0\.mlp»"),
        grafted(encoder_of("plain"), (KIM, HOULSBY)),
    ):
        pass
