"""The image tower of icon-clip, registered with timm so that open_clip builds it from an ordinary config.

A small ViT at 64 px behind a convolutional stem of stride 16 (Xiao et al. 2021, "Early convolutions help
transformers see better", arXiv:2106.14881): on a CPU budget the stem is what makes it learn.
open_clip 3.3 builds timm towers at their default image size, hence a name of ours.
"""

# B images, C channels, H height, W width, N tokens, D width.

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

WIDTHS = ((24, 2), (48, 2), (48, 1), (96, 2), (96, 1), (192, 2))
"""Channels and stride of each 3 x 3 convolution; the last width is the transformer's."""


class Stem(nn.Module):
    """Convolutions in the place of timm's `PatchEmbed`; pictures_BCHW to tokens_BND.

    `norm=True` puts a BatchNorm behind each convolution. icon-clip is pretrained so and released with the
    BatchNorms folded into the convolutions, so that the model a person adapts has no running statistics.
    """

    def __init__(self, img_size: int = 64, in_chans: int = 3, norm: bool = False, **_: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_chans
        for index, (width, stride) in enumerate(WIDTHS):
            layers.append(nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(width))
            if index + 1 < len(WIDTHS):
                layers.append(nn.GELU())
            channels = width
        self.layers = nn.Sequential(*layers)
        self.img_size = (img_size, img_size)
        self.patch_size = (16, 16)
        self.grid_size = (img_size // 16, img_size // 16)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        return 16 if as_scalar else (16, 16)

    def forward(self, pictures_BCHW: Tensor) -> Tensor:
        tokens_BDHW: Tensor = self.layers(pictures_BCHW)
        return tokens_BDHW.flatten(2).transpose(1, 2)


def tower(**kwargs: Any) -> VisionTransformer:
    """`likewise_icon_vit` with timm's keyword arguments; `embed_norm=True` for the form that is pretrained."""
    norm = kwargs.pop("embed_norm", False)
    return VisionTransformer(
        img_size=64, patch_size=16, embed_dim=WIDTHS[-1][0], depth=6, num_heads=3, class_token=False,
        global_pool="avg", embed_layer=lambda **k: Stem(norm=norm, **k), **kwargs,
    )  # fmt: skip


@register_model  # type: ignore[untyped-decorator]
def likewise_icon_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """timm's entry point. It has no weights of its own: they come with icon-clip's folder."""
    if pretrained:
        raise ValueError("likewise_icon_vit has no weights in timm's registry; load icon-clip's folder")
    for foreign in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(foreign, None)
    model = tower(**kwargs)
    model.default_cfg = {"input_size": (3, 64, 64), "pool_size": None, "architecture": "likewise_icon_vit"}
    return model
