"""timm's names of parameters, and ours: the only table of them, for timm's encoders and for open_clip's timm trunks.

    image.3.qkv...         block 3 of a ViT                image.stage1.0...          first stage, block 0
    image.stem...          the way into a CNN's stages     image.stage2.downsample... the way into a stage
    image.trunk...         what has no name of ours, under timm's own

A norm is a norm by what it is: each one's name has `norm` in it, and nothing else's has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import timm.layers
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

BLOCK = (
    (r"attn\.q_norm\.", "norm_query."), (r"attn\.k_norm\.", "norm_key."),
    (r"attn\.qkv\.", "qkv."), (r"attn\.q(?:_proj\.|_|\.)", "query."), (r"attn\.k(?:_proj\.|_|\.)", "key."),
    (r"attn\.v(?:_proj\.|_|\.)", "value."), (r"attn\.kv\.", "kv."), (r"attn\.proj\.", "out."),
    (r"attn\.norm\.", "norm_out."), (r"attn\.gate\.", "gate_out."),
    (r"attn\.relative_position_bias_table", "positions"),
    (r"mlp\.(?:fc1|fc1_x|w12|w2)\.", "up."), (r"mlp\.(?:fc1_g|w1)\.", "gate."), (r"mlp\.norm\.", "norm_down."),
    (r"mlp\.(?:fc2|w3)\.", "down."), (r"ls([12])\.gamma", r"gain\1"), (r"gamma_([12])$", r"gain\1"),
    (r"layer_scale([12])\.(?:gamma|scale)", r"gain\1"), (r"gamma$", "gain"), (r"bn(\d*)\.", r"norm\1."),
)  # fmt: skip
"""Inside a block; what is not here keeps its own name behind the block's."""

Rules = Sequence[tuple[str, str]]
"""Patterns of a library's names, and ours in their place."""
VIT = r"blocks\.(\d+)\."
"""The blocks of a transformer whose tokens stay one sequence."""
_STAGES = (
    (r"(?:stages|layers|levels)\.(\d+)\.(?:blocks\.)?(\d+)\.", 1), (r"blocks\.(\d+)\.(\d+)\.", 1),
    (r"layer(\d)\.(\d+)\.", 0), (r"s(\d)\.b(\d+)\.", 0),
)  # fmt: skip
"""A block of a stage, and what to add to the stage's number: ours begin at 1, as ResNet's do."""
_BETWEEN = r"(?:stages|layers|levels)\.(\d+)\."

_OUTSIDE = (
    (r"patch_embed\.", "image.patch."), (r"cls_token$", "image.class"), (r"pos_embed$", "image.positions"),
    (r"reg_token$", "image.registers"), (r"norm_pre\.", "image.norm_pre."),
    (r"(?:fc_|head\.)?norm\.", "image.norm_post."), (r"attn_pool\.", "image.pool."), (r"stem\.", "image.stem."),
    (r"conv_stem\.", "image.stem.conv."), (r"conv1\.", "image.stem.conv1."), (r"bn1\.", "image.stem.norm1."),
    (r"conv_head\.", "image.conv_post."), (r"bn2\.", "image.norm_post."),
)  # fmt: skip
"""Everything else; the first match wins."""


def _norms() -> Iterator[type[nn.Module]]:
    yield from (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    homes = [f"timm.layers.{part}" for part in ("norm", "norm_act", "evo_norm", "filter_response_norm", "inplace_abn")]
    for kind in vars(timm.layers).values():
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ in homes:
            yield kind


NORMS = tuple(_norms())
"""torch's norms, and every class of timm's files of norms: those with an activation behind them too."""


def inside(rest: str) -> str:
    """timm's name of a parameter inside a block to ours."""
    for pattern, ours in BLOCK:
        if re.match(pattern, rest):
            return re.sub(f"^{pattern}", ours, rest)
    return rest


def within(upstream: str, towers: Rules, inside: Rules) -> str:
    """Our name of what lies in a block: the block by `towers`, the rest by the first rule that fits; "" outside."""
    for pattern, tower in towers:
        if found := re.match(pattern, upstream):
            rest = upstream[found.end() :]
            rule = next((rule for rule in inside if re.match(rule[0], rest)), ("", ""))
            return f"{tower}.{found[1]}." + re.sub(f"^{rule[0]}", rule[1], rest)
    return ""


def place(upstream: str) -> tuple[str, str]:
    """The block that a name lies in by our name (`image.3`, `image.stage1.0`) and timm's rest; two "" outside."""
    for pattern, more in _STAGES:
        if found := re.match(pattern, upstream):
            return f"image.stage{int(found[1]) + more}.{found[2]}", upstream[found.end() :]
    if found := re.match(VIT, upstream):
        return f"image.{found[1]}", upstream[found.end() :]
    return "", ""


def rename(upstream: str) -> str:
    """timm's name of a parameter to ours, by the name alone."""
    block, rest = place(upstream)
    if block:
        return f"{block}.{inside(rest)}"
    if found := re.match(_BETWEEN, upstream):
        return f"image.stage{int(found[1]) + 1}.{upstream[found.end() :]}"
    for pattern, ours in _OUTSIDE:
        if re.match(pattern, upstream):
            return re.sub(f"^{pattern}", ours, upstream)
    return f"image.trunk.{upstream}"


def names_of(module: nn.Module) -> dict[str, str]:
    """timm's names of all parameters and stored buffers to ours: one to one, and norms are called norms."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for upstream in dict.fromkeys([*dict(module.named_parameters()), *module.state_dict()]):
        norm = isinstance(module.get_submodule(upstream.rpartition(".")[0]), NORMS)
        ours = _honest(rename(upstream), norm)
        owner = module.get_submodule(".".join(upstream.split(".")[:-2]))
        if getattr(owner, "head_first", False):  # rows by head and not by thirds, so no queries, keys and values
            ours = ours.replace(".qkv.", ".qkv_by_head.")
        names[upstream] = ours if ours not in taken else _honest(f"image.trunk.{upstream}", norm)
        taken.add(names[upstream])
    return names


def _honest(ours: str, norm: bool) -> str:
    """With `norm` in the name of a norm, and in no other."""
    if not norm:
        return ours.replace("norm", "affine")  # what stands in a norm's place without normalising
    owner, _, attr = ours.rpartition(".")
    if "norm" in ours:
        return ours
    owner = re.sub(r"^(image\.stage\d+\.\d+)\.downsample\.\d+$", r"\1.norm_skip", owner)
    if "norm" not in owner:
        parent, _, last = owner.rpartition(".")
        owner = f"{parent}.norm{re.sub(r'^(bn|ln)_?', '', last)}"
    return f"{owner}.{attr}"
