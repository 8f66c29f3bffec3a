"""Hugging Face's CLIPModel as the twin of an open_clip one: its module names, and whether there is a twin at all."""

from __future__ import annotations

import re
from typing import Any

from likewise.encoder import Encoder
from likewise.encoders.open_clip import OpenClip
from likewise.encoders.transformers_names import CLIP_BLOCK, CLIP_OUTSIDE, CLIP_TOWERS
from likewise.errors import ConfigError, some

_PACKED = {"query": "qkv.q", "key": "qkv.k", "value": "qkv.v"}
_BLOCK = {_PACKED.get(ours, ours): theirs for ours, theirs in CLIP_BLOCK.items()}

HUB = {
    "ViT-B-32/openai": "openai/clip-vit-base-patch32", "ViT-B-16/openai": "openai/clip-vit-base-patch16",
    "ViT-L-14/openai": "openai/clip-vit-large-patch14", "ViT-L-14-336/openai": "openai/clip-vit-large-patch14-336",
}  # fmt: skip
"""Encoders whose twin is published, by the name they are loaded by."""

_PARAMETERS = {
    "image": ("patch.weight", "class", "positions", "norm_pre.weight", "norm_pre.bias", "norm_post.weight",
              "norm_post.bias", "projection"),
    "text": ("tokens", "positions", "norm_post.weight", "norm_post.bias", "projection"),
}  # fmt: skip
_SIZES = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale", "layers", "width",
          "head_width", "heads", "mlp_ratio", "patch_size", "image_size", "patch_dropout", "context_length",
          "vocab_size", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "bos_id", "eos_id",
          "pad_id"}  # fmt: skip
"""Options of open_clip's configurations that the twin has too, or that do not touch the answers."""
_PLAIN = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",),
          "block_type": ("default",)}  # fmt: skip
_IDLE = {"timm_": "timm_model_name", "hf_": "hf_model_name", "attn_pooler_": "attentional_pool"}
"""Beginnings of options that are read only where another one is set."""


def module_of(place: str) -> str | None:
    """The twin's module for a place of ours (`image.3.norm1`, `text.0.qkv.q`); None where it has no such module."""
    found = re.fullmatch(r"(image|text)\.(\d+)\.([\w.]+)", place)
    if found and found[3] in _BLOCK:
        return f"{CLIP_TOWERS[found[1]]}.encoder.layers.{found[2]}.{_BLOCK[found[3]]}"
    return CLIP_OUTSIDE.get(place)


def place_of(module: str) -> str | None:
    """The inverse of `module_of`."""
    found = re.fullmatch(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.([\w.]+)", module)
    if found:
        tower = {theirs: ours for ours, theirs in CLIP_TOWERS.items()}[found[1]]
        inner = {theirs: ours for ours, theirs in _BLOCK.items()}.get(found[3])
        return inner and f"{tower}.{found[2]}.{inner}"
    return {theirs: ours for ours, theirs in CLIP_OUTSIDE.items()}.get(module)


def hub_name(name: str) -> str | None:
    """Where the twin of an encoder is published, if we know; one of transformers' own is where it was loaded from."""
    if found := re.fullmatch(r"hf:(\w[\w.-]*/[\w.-]+)", name):
        return found[1]
    return HUB.get(name.removeprefix("open_clip:").replace("-quickgelu/", "/"))


def check_twin(encoder: Encoder) -> None:
    """Raises `ConfigError` where transformers' CLIPModel cannot compute what this encoder computes, and says why."""
    if why := _no_twin(encoder):
        raise ConfigError(
            f"{encoder.spec.name} has no twin among Hugging Face's CLIPs, which PEFT's format is for here: {why}. "
            "Export it whole (--format merged, an open_clip folder) or as a delta on its base (--format delta)."
        )


def _no_twin(encoder: Encoder) -> str:
    config = encoder.spec.config
    if encoder.spec.family == "transformers":
        return "" if config["model_type"] == "clip" else f"it is transformers' {config['model_type']}"
    vision, text = config.get("vision_cfg") or {}, config.get("text_cfg") or {}
    if vision.get("timm_model_name"):
        return f"its image tower is timm's {vision['timm_model_name']}, and CLIPModel has OpenAI's transformer only"
    if isinstance(vision.get("layers"), list | tuple):
        return "its image tower is a ResNet, and CLIPModel has OpenAI's transformer only"
    if text.get("hf_model_name"):
        return f"its text tower is {text['hf_model_name']}, and CLIPModel has OpenAI's only"
    for where, options in (("", config), ("vision_cfg.", vision), ("text_cfg.", text)):
        if odd := [f"{where}{key}={value!r}" for key, value in options.items() if not _ordinary(key, value, options)]:
            return f"CLIPModel does not know {some(odd, 3)}"
    return _other_numbers(encoder)


def _ordinary(key: str, value: Any, options: dict[str, Any]) -> bool:
    idle = any(key.startswith(start) and not options.get(switch) for start, switch in _IDLE.items())
    return key in _SIZES or not value or value in _PLAIN.get(key, ()) or idle


def _other_numbers(encoder: Encoder) -> str:
    """What is more or less than CLIPModel's own parameters, whatever the configuration says."""
    want = {"scale"} | {f"{tower}.{name}" for tower, names in _PARAMETERS.items() for name in names}
    inside = [
        f"{part}.{kind}" for part in ("norm1", "qkv", "out", "norm2", "up", "down") for kind in ("weight", "bias")
    ]
    want |= {f"{t}.{block}.{name}" for t in _PARAMETERS for block in range(encoder.blocks(t)) for name in inside}
    have = set(encoder.sites)
    if have != want:
        more, less = sorted(have - want), sorted(want - have)
        told = [f"CLIPModel has no {some(more, 3)}"] if more else []
        return " and ".join(told + ([f"it lacks {some(less, 3)}"] if less else []))
    if not (isinstance(encoder, OpenClip) and encoder.trims):
        return "its text tower is not causal with the answer at the end of text"
    return ""
