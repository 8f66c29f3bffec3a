"""LoRA against a sum made by hand, and against peft's layer."""

# O rows and I columns of a weight, R rank, T tokens.

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from adapter_laws import answers, check_alive, check_alpha, check_keyed, check_removed, check_silent, count, stir
from likewise.adapters import Lora, grafted
from likewise.encoder import Encoder
from likewise.errors import ConfigError

Encoders = Callable[[str], Encoder]
CLIP_LORA = Lora(rank=2, alpha=1.0, rooted=True)
WIDE = Lora(
    at=("image.*.qkv.weight", "text.*.out.weight", "image.0.up.weight", "text.-1.down.weight"), parts=("q", "v")
)


@pytest.mark.parametrize("kind", ["plain", "icon", "custom"])
@pytest.mark.parametrize("lora", [CLIP_LORA, WIDE])
def test_laws(encoder_of: Encoders, kind: str, lora: Lora) -> None:
    encoder = encoder_of(kind)
    check_silent(encoder, lora)
    check_removed(encoder, lora)
    check_alive(encoder, lora)
    check_keyed(encoder, lora)


@pytest.mark.parametrize("rooted", [True, False])
@pytest.mark.parametrize("kind", ["plain", "icon"])
def test_the_weight_is_the_sum_made_by_hand(encoder_of: Encoders, kind: str, rooted: bool) -> None:
    encoder = encoder_of(kind)
    lora = Lora(at=("image.0.qkv.weight", "image.0.up.weight"), parts=("k", "v"), rank=3, alpha=5.0, rooted=rooted)
    before = {name: site.value.detach().double().numpy().copy() for name, site in encoder.sites.items()}
    with grafted(encoder, (lora,)), torch.no_grad():
        n = {name.removeprefix("adapters.lora."): p.double().numpy() for name, p in stir(encoder).items()}
        folded = encoder.folded()
    factor = 5 / (math.sqrt(3) if rooted else 3)
    up_OI = before["image.0.up.weight"] + factor * n["image.0.up.up"] @ n["image.0.up.down"]
    np.testing.assert_allclose(folded["image.0.up.weight"], up_OI, rtol=1e-5, atol=1e-6)
    q_OI, k_OI, v_OI = np.split(before["image.0.qkv.weight"], 3)
    k_OI = k_OI + factor * n["image.0.qkv.k.up"] @ n["image.0.qkv.k.down"]
    v_OI = v_OI + factor * n["image.0.qkv.v.up"] @ n["image.0.qkv.v.down"]
    np.testing.assert_allclose(folded["image.0.qkv.weight"], np.concatenate([q_OI, k_OI, v_OI]), rtol=1e-5, atol=1e-6)
    assert set(folded) == {"image.0.qkv.weight", "image.0.up.weight"}
    assert torch.equal(folded["image.0.qkv.weight"][: len(q_OI)].double(), torch.from_numpy(q_OI))


@pytest.mark.parametrize("rooted", [True, False])
def test_a_linear_layer_answers_as_peft_does(encoder_of: Encoders, rooted: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft")
    encoder = encoder_of("icon")
    layer = encoder.children["image.2.up"].value
    theirs = nn.Sequential(nn.Linear(layer.in_features, layer.out_features))
    theirs.load_state_dict({"0.weight": layer.weight, "0.bias": layer.bias})
    x_TI = torch.linspace(-2, 2, 5 * layer.in_features).reshape(5, -1)
    lora = Lora(at=("image.2.up.weight",), rank=4, alpha=6.0, rooted=rooted)
    with grafted(encoder, (lora,)):
        mine = stir(encoder)
        ours_TO = layer(x_TI)
        config = peft.LoraConfig(r=4, lora_alpha=6.0, use_rslora=rooted, target_modules=["0"], lora_dropout=0.0)
        model = peft.get_peft_model(theirs, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                for part, own in (("lora_A", "down"), ("lora_B", "up")):
                    if part in name:
                        parameter.copy_(mine[f"adapters.lora.image.2.up.{own}"])
        theirs_TO = model(x_TI)
        ours_TO.square().sum().backward()
        theirs_TO.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        for part, own in (("lora_A", "down"), ("lora_B", "up")):
            (theirs_g,) = [g for name, g in gradients.items() if part in name]
            torch.testing.assert_close(mine[f"adapters.lora.image.2.up.{own}"].grad, theirs_g, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours_TO, theirs_TO, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.weight, model.base_model.model[0].base_layer.weight)
    assert not torch.allclose(ours_TO, layer(x_TI))


def test_half_way_is_half_the_product(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    site = encoder.sites["text.0.qkv.weight"]
    lora = Lora(at=("text.0.qkv.weight",), rank=2, alpha=3.0)
    check_alpha(encoder, lora, lambda: site.value.detach().clone())
    base_OI = site.value.detach().clone()
    with grafted(encoder, (lora,)), torch.no_grad():
        n = {name.removeprefix("adapters.lora.text.0.qkv."): p for name, p in stir(encoder).items()}
        product_OI = 1.5 * torch.cat([n[f"{part}.up"] @ n[f"{part}.down"] for part in "qkv"])
        for name, parameter in n.items():
            if lora.in_line(f"adapters.lora.text.0.qkv.{name}"):
                parameter.mul_(0.5)
        torch.testing.assert_close(site.value, base_OI + product_OI / 2)
        answer = answers(encoder)
    encoder.put({"text.0.qkv.weight": base_OI + product_OI / 2})
    with torch.no_grad():
        plain = answers(encoder)
    encoder.put({"text.0.qkv.weight": base_OI})
    torch.testing.assert_close(answer, plain)


def test_counts(encoder_of: Encoders, vit_b_16: Encoder) -> None:
    assert count(vit_b_16, CLIP_LORA) == 184_320
    assert count(vit_b_16, Lora(rank=4)) == 368_640
    one = Lora(at=("image.1.out.weight", "text.0.up.weight"), rank=3)
    assert count(encoder_of("plain"), one) == 3 * (32 + 32) + 3 * (64 + 16)


def test_start(encoder_of: Encoders) -> None:
    """A is uniform in 1 / sqrt(columns) and its own for each part; B is zero."""
    encoder = encoder_of("icon")
    with grafted(encoder, (Lora(at=("image.*.qkv.weight",), rank=16),)):
        start = {n: p.detach() for n, p in encoder.grafts.parameters_by_name().items()}
    downs = [p for n, p in start.items() if n.endswith(".down")]
    assert len(start) == 2 * len(downs) == 36
    assert all(not p.any() for n, p in start.items() if n.endswith(".up"))
    assert all(0.99 / 192**0.5 < p.abs().max() < 1 / 192**0.5 for p in downs)
    assert len({p.numpy().tobytes() for p in downs}) == len(downs)


def test_what_cannot_be_says_why(encoder_of: Encoders) -> None:
    for at in ("image.0.norm1.weight", "image.patch.weight", "scale"):
        with (
            pytest.raises(ConfigError, match=f"LoRA cannot stand at {at}"),
            grafted(encoder_of("plain"), (Lora(at=(at,)),)),
        ):
            pass
    with (
        pytest.raises(ConfigError, match=r"no place «image\.\*\.qkv\.weight».* no transformer blocks"),
        grafted(encoder_of("resnet"), (Lora(),)),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"mean image\.1\.\w+\.weight.*here: \w+\.\d\.\w+\.weight, ") as told,
        grafted(encoder_of("plain"), (Lora(at=("image.9.up.weight",)),)),
    ):
        pass
    assert not re.search("scale|norm|positions|projection|tokens", str(told.value))  # where it could not stand
