"""One small encoder of each family, with random weights: to ask what a method could do with that family."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from open_clip.model import CLIP

from likewise.encoder import Encoder, EncoderSpec
from likewise.encoders import timm
from likewise.encoders.open_clip import OpenClip
from likewise.encoders.pair import Pair

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 12}
FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP ViT": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 12, "head_width": 16},
    "timm ViT": {"timm_model_name": "vit_tiny_patch16_224", "timm_proj": "linear", "timm_pool": "", "image_size": 224},
    "CLIP ResNet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
}
"""open_clip's image towers by kind; every text tower here is CLIP's, of twelve blocks."""
VISION = {"vision ViT": "timm:vit_tiny_patch16_224", "vision CNN": "timm:resnet10t"}
"""Vision encoders, which a CLIP's text tower stands beside."""
NAMES = (*FAMILIES, *VISION)


def sample(family: str) -> Encoder:
    """An encoder of that family without pretrained weights. It counts and takes grafts; it knows nothing."""
    if family in VISION:
        image = timm.load(VISION[family], weights=False)
        image.spec = image.spec.model_copy(update={"name": family})
        pair = Pair(image, sample("CLIP ViT"))
        pair.spec = pair.spec.model_copy(update={"name": family})
        return pair
    config = {"embed_dim": 16, "vision_cfg": FAMILIES[family], "text_cfg": _TEXT}
    with torch.random.fork_rng(devices=[]):
        module = CLIP(**config)
    spec = EncoderSpec(
        family="open_clip", name=family, config=config, weights="", image_size=FAMILIES[family]["image_size"],
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="shortest", interpolation="bicubic", context=77,
    )  # fmt: skip
    return OpenClip(spec, module, open_clip.get_tokenizer("ViT-B-32"))
