"""Coupled prompts: words and the image tokens made of them, by a forward by hand; counts, starts, refusals."""

# B images, I width of the image tower, L tokens, P learned words, W width of the text tower.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from likewise.adapters import Maple, add, grafted
from likewise.encoder import Encoder, learned
from likewise.errors import ConfigError
from tiny import everything, pixels

KINDS = ("plain", "icon", "custom")
SOT, EOT = 49406, 49407
"""CLIP's ids of the start and the end of text."""
NAMES = ["red fox", "bee"]


def numbers(encoder: Encoder, depth: int) -> tuple[list[Tensor], list[Tensor]]:
    """The words of each depth, and the image tokens that they make, in copies."""
    mine = {name: p.detach().clone() for name, p in encoder.grafts.parameters_by_name().items()}
    assert list(mine) == [
        f"adapters.maple.both.{i}.{part}" for i in range(depth) for part in ("words", "weight", "bias")
    ]
    words = [mine[f"adapters.maple.both.{i}.words"] for i in range(depth)]
    maps = [(mine[f"adapters.maple.both.{i}.weight"], mine[f"adapters.maple.both.{i}.bias"]) for i in range(depth)]
    return words, [w_PW @ a_IW.T + b_I for w_PW, (a_IW, b_I) in zip(words, maps, strict=True)]


def image_by_hand(encoder: Encoder, kind: str, prompts: list[Tensor]) -> Tensor:
    visual = encoder.module.visual
    count = len(prompts[0])

    def with_end(x_BLW: Tensor, prompt_PI: Tensor) -> Tensor:
        return torch.stack([torch.cat([x_LW, prompt_PI]) for x_LW in x_BLW])

    if kind == "icon":
        trunk = visual.trunk
        x_BLW = with_end(trunk._pos_embed(trunk.patch_embed(pixels(encoder))), prompts[0])
        blocks = trunk.blocks
    else:
        grid_BIHW = visual.conv1(pixels(encoder))
        patch_BLI = grid_BIHW.flatten(2).transpose(1, 2)
        class_BLI = visual.class_embedding.expand(len(patch_BLI), 1, -1)
        x_BLW = torch.cat([class_BLI, patch_BLI], 1) + visual.positional_embedding
        x_BLW = visual.ln_pre(with_end(x_BLW, prompts[0]))
        blocks = visual.transformer.resblocks
    for index, block in enumerate(blocks):
        if 0 < index < len(prompts):
            x_BLW = with_end(x_BLW[:, :-count], prompts[index])
        x_BLW = block(x_BLW)
    x_BLW = x_BLW[:, :-count]
    if kind == "icon":
        return torch.as_tensor(visual.head(trunk.fc_norm(trunk.norm(x_BLW).mean(1))))
    return torch.as_tensor(visual.ln_post(x_BLW[:, 0]) @ visual.proj)


def text_by_hand(encoder: Encoder, name: str, words: list[Tensor]) -> Tensor:
    tower: Any = getattr(encoder.module, "text", encoder.module)
    row = open_clip.tokenize([f"{name}."])[0].tolist()
    said = row[1 : row.index(EOT)]
    table_VW, length, count = encoder.sites["text.tokens"].value, encoder.spec.context, len(words[0])
    end = 1 + count + len(said)
    rows = [table_VW[SOT], *words[0], *table_VW[said], table_VW[EOT], *[table_VW[0]] * (length - end - 1)]
    x_LW = torch.stack(rows) + tower.positional_embedding
    for index, block in enumerate(tower.transformer.resblocks):
        if 0 < index < len(words):
            x_LW = torch.cat([x_LW[:1], words[index], x_LW[1 + count :]])
        x_LW = block(x_LW[None], attn_mask=tower.attn_mask)[0]
    return torch.as_tensor(tower.ln_final(x_LW)[end] @ tower.text_projection)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2])
def test_features_are_those_of_a_forward_by_hand(encoder_of: Callable[[str], Encoder], kind: str, depth: int) -> None:
    encoder = encoder_of(kind)
    maple = Maple(length=2, depth=depth)
    with torch.no_grad():
        before = encoder.image(pixels(encoder)).shared_BD
        add(encoder, [maple], 0)
        for parameter in encoder.grafts.parameters_by_name().values():
            parameter.mul_(5)  # large enough to be seen
        image_BD = encoder.image(pixels(encoder)).shared_BD
        text_CD = encoder.text(encoder.tokenize([texts[0] for texts in maple.texts(NAMES)]))
        words, tokens = numbers(encoder, depth)
        encoder.grafts.remove()
        torch.testing.assert_close(image_BD, image_by_hand(encoder, kind, tokens), rtol=1e-5, atol=1e-5)
        want_CD = torch.stack([text_by_hand(encoder, name, words) for name in NAMES])
        torch.testing.assert_close(text_CD, want_CD, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(image_BD, before, rtol=1e-3, atol=1e-3)  # not silent


def test_texts() -> None:
    two = learned(0) + learned(1)
    assert Maple().texts(["red fox", "{}"]) == [[f"{two} red fox."], [f"{two} {{}}."]]
    with pytest.raises(ConfigError, match="has a character of Unicode's private plane"):
        Maple().texts([learned(2)])


def test_starts(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    found: dict[int, dict[str, Tensor]] = {}
    for seed in (0, 0, 1):
        add(encoder, [Maple(depth=2)], seed)
        start = {name: p.detach().clone() for name, p in encoder.grafts.parameters_by_name().items()}
        encoder.grafts.remove()
        again = found.setdefault(seed, start)
        assert all(torch.equal(again[name], start[name]) for name in start)
    first = "adapters.maple.both.0.words"
    photo = open_clip.tokenize(["a photo"])[0, 1:3]
    assert torch.equal(found[0][first], encoder.sites["text.tokens"].value[photo])
    assert torch.equal(found[0][first], found[1][first])
    assert not any(torch.equal(found[0][name], found[1][name]) for name in found[0] if name != first)
    for index in (0, 1):  # PyTorch's linear layers: uniform in 1 / sqrt(fan in)
        for part in ("weight", "bias"):
            bound = 1 / math.sqrt(16)
            drawn = found[0][f"adapters.maple.both.{index}.{part}"]
            assert 0.8 * bound < float(drawn.abs().max()) <= bound
            assert float(drawn.std()) == pytest.approx(bound / math.sqrt(3), rel=0.25 if part == "bias" else 0.1)
    add(encoder, [Maple(length=10, depth=2, start="")], 0)
    for index in (0, 1):
        words = encoder.grafts.parameters_by_name()[f"adapters.maple.both.{index}.words"]
        assert float(words.detach().std()) == pytest.approx(0.02, rel=0.2)
    encoder.grafts.remove()


def test_numbers_on_vit_b_16(vit_b_16: Encoder) -> None:
    for maple, want in ((Maple(), 3_555_072), (Maple(depth=1, length=4, start=""), 4 * 512 + 512 * 768 + 768)):
        add(vit_b_16, [maple], 0)
        found = sum(p.numel() for p in vit_b_16.grafts.parameters_by_name().values())
        vit_b_16.grafts.remove()
        assert found == want


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_lives_and_removal_leaves_no_trace(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    maple = Maple(depth=2)
    modules = [(name, id(module)) for name, module in encoder.module.named_modules()]
    values, names = everything(encoder), list(encoder.parameters_by_name())
    plain = encoder.tokenize(["one red fox"])
    with torch.no_grad():
        before = encoder.image(pixels(encoder)).shared_BD, encoder.text(plain)
    for loss in ("both", "image"):  # the words get a gradient through the image tower alone too
        add(encoder, [maple], 0)
        value = encoder.image(pixels(encoder)).shared_BD.square().sum()
        if loss == "both":
            value = value + encoder.text(encoder.tokenize(maple.texts(NAMES)[0])).square().sum()
        value.backward()
        for name, parameter in encoder.grafts.parameters_by_name().items():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name
        encoder.grafts.remove()
    assert [(name, id(module)) for name, module in encoder.module.named_modules()] == modules
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.module.modules())
    assert list(encoder.parameters_by_name()) == names
    assert list(everything(encoder)) == list(values)
    with torch.no_grad():
        assert torch.equal(encoder.image(pixels(encoder)).shared_BD, before[0])
        assert torch.equal(encoder.text(plain), before[1])


def test_what_cannot_be_is_refused(encoder_of: Callable[[str], Encoder]) -> None:
    with pytest.raises(ConfigError, match="no transformer blocks in its image tower"):
        add(encoder_of("resnet"), [Maple(depth=1)], 0)
    icon, plain = encoder_of("icon"), encoder_of("plain")
    with pytest.raises(ConfigError, match=r"«photo» is 1 tokens .* length 2"):
        add(plain, [Maple(depth=2, start="photo")], 0)
    with pytest.raises(ConfigError, match="leave no room"):
        add(plain, [Maple(depth=2, length=13, start="")], 0)
    assert plain.grafts.seams == icon.grafts.seams == {}
    assert Maple.scales is None
    assert "no pretrained counterpart" in Maple.refuses


def test_the_depth_ends_with_the_shallower_tower(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("icon")  # 6 image blocks, 2 text blocks
    with grafted(encoder, [Maple(depth=9)]):
        deep = {name: p.shape for name, p in encoder.grafts.parameters_by_name().items()}
    with grafted(encoder, [Maple(depth=2)]):
        assert deep == {name: p.shape for name, p in encoder.grafts.parameters_by_name().items()}
