"""Stepping stones of vision: timm's encoders at a size that a law can bear, written to disk as timm folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from likewise.encoders import load
from likewise.encoders.pair import Pair
from likewise.recipes import captions
from tiny import write_encoder

_vit = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", 16, _vit),
    "dinov2": ("vit_small_patch14_reg4_dinov2", 16, _vit | {"reg_tokens": 2}),
    "resnet": ("test_resnet", 32, {"stem_width": 8, "channels": [8, 12, 16, 24]}),
    "efficientnet": ("test_efficientnet", 32, {}),
}
"""Architecture, side of a picture, and what makes it small."""
PAIRS = {f"with-{kind}": kind for kind in KINDS}
"""The same with a tiny CLIP's text tower beside them."""
BLOCKLESS = ("with-resnet", "with-efficientnet")
"""Pairs whose image tower has no transformer blocks."""
IN_BLOCKS = ("caption-bottleneck", "caption-token-replay", "caption-tokens", "caption-lora")
"""Recipes whose adapters stand in transformer blocks."""
ON_VISION = [(k, name) for k in PAIRS for name in captions.RECIPES if k not in BLOCKLESS or name not in IN_BLOCKS]
"""Every caption recipe on every pair where it can be."""
VIEW = {"mean": [0.5, 0.45, 0.4], "std": [0.25, 0.26, 0.27], "interpolation": "bicubic", "crop_pct": 0.875}


def write_vision(folder: Path, kind: str) -> Path:
    """A timm folder of that kind with weights that are the same on every call: no exact ones or zeros in them."""
    architecture, side, args = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.random.get_rng_state()
    torch.manual_seed(11)
    module = timm.create_model(architecture, num_classes=0, **args)
    with torch.no_grad():  # away from the exact ones and zeros of a fresh model, which would hide mistakes
        for name, parameter in module.named_parameters():
            if name.endswith("gamma"):  # a LayerScale is born too small for its block to matter
                parameter.add_(0.5)
            parameter.add_(0.02 * torch.randn_like(parameter))
        for key, buffer in module.named_buffers():
            if "running_mean" in key:
                buffer.copy_(0.1 * torch.randn_like(buffer))
            if "running_var" in key:
                buffer.copy_(0.5 + torch.rand_like(buffer))
            if "num_batches" in key:
                buffer.fill_(3)
    torch.random.set_rng_state(state)
    view = {**VIEW, "input_size": [3, side, side], "fixed_input_size": "img_size" in args, "num_classes": 0}
    config = {"architecture": architecture, "num_classes": 0, "model_args": args, "pretrained_cfg": view}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    return folder


def pair_at(stones: Path, kind: str) -> Pair:
    """A newly loaded pair, from folders that are written where they are not there yet."""
    place, text = stones / "vision" / PAIRS[kind], stones / "encoders" / "plain"
    if not (place / "model.safetensors").exists():
        write_vision(place, PAIRS[kind])
    if not (text / "open_clip_model.safetensors").exists():
        write_encoder(text, "plain")
    return Pair(load(f"local-dir:{place}"), load(f"local-dir:{text}"))
