"""Learned tokens in the image tower: where they stand, when they are exchanged, and that pooling never sees them."""

# B images, L tokens, P learned tokens, W width.

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likewise.adapters import VisualPrompt, add
from likewise.adapters.visual_prompt import patch_area
from likewise.encoder import Embedded, Encoder
from likewise.errors import ConfigError
from tiny import everything, pixels

KINDS = ("plain", "icon", "custom")


def vectors_of(encoder: Encoder) -> dict[str, Tensor]:
    return dict(encoder.grafts.parameters_by_name())


def by_hand(encoder: Encoder, kind: str, prompts: list[Tensor]) -> Embedded:
    """The tower's own modules one after the other, with learned tokens in between."""
    visual = encoder.module.visual
    if kind == "icon":
        trunk = visual.trunk
        x_BLW = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels(encoder))))
        blocks, first = trunk.blocks, 0
    else:
        x_BLW = visual._embeds(pixels(encoder))
        blocks, first = visual.transformer.resblocks, 1
    count = len(prompts[0])
    x_BLW = torch.stack([torch.cat([x_LW[:first], prompts[0], x_LW[first:]]) for x_LW in x_BLW])
    for index, block in enumerate(blocks):
        if 0 < index < len(prompts):
            x_BLW = x_BLW.clone()
            x_BLW[:, first : first + count] = prompts[index]
        x_BLW = block(x_BLW)
    keep = [i for i in range(x_BLW.shape[1]) if not first <= i < first + count]
    x_BLW = x_BLW[:, keep]
    if kind == "icon":
        pooled_BW = trunk.fc_norm(trunk.norm(x_BLW).mean(1))
        return Embedded(pooled_BW, visual.head(pooled_BW))
    pooled_BW = visual.ln_post(x_BLW[:, 0])
    return Embedded(pooled_BW, pooled_BW @ visual.proj)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_features_are_those_of_a_forward_by_hand(encoder_of: Callable[[str], Encoder], kind: str, depth: int) -> None:
    encoder = encoder_of(kind)
    blocks = encoder.blocks("image")
    with torch.no_grad():
        before = encoder.image(pixels(encoder))
        add(encoder, [VisualPrompt(length=3, depth=depth)], 0)
        found = encoder.image(pixels(encoder))
        mine = vectors_of(encoder)
        encoder.grafts.remove()
        want = by_hand(encoder, kind, list(mine.values()))
    assert list(mine) == [f"adapters.visual-prompt.image.{i}.vectors" for i in range(depth or blocks)]
    assert found.shared_BD.shape == before.shared_BD.shape
    torch.testing.assert_close(found.shared_BD, want.shared_BD, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled_BW, want.pooled_BW, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found.shared_BD, before.shared_BD, rtol=1e-3, atol=1e-3)  # not silent


@pytest.mark.parametrize(("kind", "at"), [("plain", 1), ("icon", 0), ("custom", 1)])
def test_the_tokens_stand_behind_the_class_token(encoder_of: Callable[[str], Encoder], kind: str, at: int) -> None:
    # attention would give the same answer for any order, so this is seen only on the way into a block
    encoder = encoder_of(kind)
    seen: list[Tensor] = []
    add(encoder, [VisualPrompt(length=3, depth=2)], 0)
    vectors = list(vectors_of(encoder).values())
    handles = [
        encoder.children[f"image.{i}.block"].value.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        for i in (0, 1)
    ]
    with torch.no_grad():
        encoder.image(pixels(encoder))
        for handle in handles:
            handle.remove()
        encoder.grafts.remove()
        block = encoder.children["image.0.block"].value
        handle = block.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        encoder.image(pixels(encoder))
        handle.remove()
    first, second, plain = seen
    assert torch.equal(torch.cat([first[:, :at], first[:, at + 3 :]], 1), plain)
    for found, want in ((first, vectors[0]), (second, vectors[1])):
        assert all(torch.equal(row, want) for row in found[:, at : at + 3])


@pytest.mark.parametrize(("kind", "side"), [("plain", 8), ("icon", 16), ("custom", 8)])
def test_the_start_is_uniform_and_drawn_by_key(encoder_of: Callable[[str], Encoder], kind: str, side: int) -> None:
    encoder = encoder_of(kind)
    width = encoder.pooled_width
    bound = math.sqrt(6 / (3 * side * side + width))
    starts: dict[int, Tensor] = {}
    for seed in (0, 0, 1):
        add(encoder, [VisualPrompt(length=200)], seed)
        start = torch.stack([v.detach().clone() for v in vectors_of(encoder).values()])
        encoder.grafts.remove()
        assert torch.equal(starts.setdefault(seed, start), start)
    assert starts[0].shape == (encoder.blocks("image"), 200, width)
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0][0], starts[0][1])
    assert 0.99 * bound < float(starts[0].abs().max()) <= bound
    assert float(starts[0].std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_numbers_on_vit_b_16(vit_b_16: Encoder) -> None:
    assert patch_area(vit_b_16) == 256
    for prompt, want in (
        (VisualPrompt(), 73_728),
        (VisualPrompt(depth=1), 6_144),
        (VisualPrompt(length=5, depth=4), 15_360),
    ):
        add(vit_b_16, [prompt], 0)
        found = sum(p.numel() for p in vit_b_16.grafts.parameters_by_name().values())
        vit_b_16.grafts.remove()
        assert found == want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0, 1])
def test_every_vector_lives_and_removal_leaves_no_trace(
    encoder_of: Callable[[str], Encoder], kind: str, depth: int
) -> None:
    encoder = encoder_of(kind)
    modules = [(name, id(module)) for name, module in encoder.module.named_modules()]
    values, names = everything(encoder), list(encoder.parameters_by_name())
    with torch.no_grad():
        before = encoder.image(pixels(encoder)).shared_BD
    add(encoder, [VisualPrompt(depth=depth)], 0)
    encoder.image(pixels(encoder)).shared_BD.square().sum().backward()  # type: ignore[no-untyped-call]
    for name, vectors in vectors_of(encoder).items():
        assert vectors.grad is not None, name
        assert bool((vectors.grad != 0).any(dim=1).all()), name
    assert all(p.grad is None for p in encoder.module.parameters())
    encoder.grafts.remove()
    assert [(name, id(module)) for name, module in encoder.module.named_modules()] == modules
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.module.modules())
    assert list(encoder.parameters_by_name()) == names
    assert list(everything(encoder)) == list(values)
    with torch.no_grad():
        assert torch.equal(encoder.image(pixels(encoder)).shared_BD, before)


def test_what_cannot_be_is_refused(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no transformer blocks in its image tower"):
        add(encoder_of("resnet"), [VisualPrompt()], 0)
    encoder = encoder_of("plain")
    with pytest.raises(ConfigError, match=r"depth 3 .* has 2 blocks") as caught:
        add(encoder, [VisualPrompt(depth=3)], 0)
    assert "at most 2" in str(caught.value)
    with pytest.raises(ConfigError, match="at"):
        VisualPrompt.parse({"at": ["image.0"]})
    sites = {
        name: site for name, site in encoder.sites.items() if name not in ("image.positions", "image.patch.weight")
    }
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "sites", sites)
        with pytest.raises(ConfigError, match="how large its patches are"):
            add(encoder, [VisualPrompt()], 0)
    encoder.module.visual.rope = torch.nn.Identity()  # as timm's EVA calls it
    with pytest.raises(ConfigError, match="rotary positions"):
        add(encoder, [VisualPrompt()], 0)
    del encoder.module.visual.rope
    assert encoder.grafts.seams == {}
    assert VisualPrompt.scales is None
    assert "no pretrained counterpart" in VisualPrompt.refuses
