"""Pictures to tensors, exactly as the encoder was pretrained to see them; randomness only by key."""

# B pictures of a batch, C colours, H height, W width.

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as ops

from likewise.keys import key_rng

SCALE = (0.9, 1.0)  # share of the picture's area in a training crop
RATIO = (3 / 4, 4 / 3)  # width to height of a training crop
SLIMMEST = 64  # longer side to shorter; slimmer pictures would become enormous under `shortest`


class Spec(Protocol):
    """What views read of an encoder's spec."""

    @property
    def image_size(self) -> int: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...
    @property
    def resize(self) -> Literal["shortest", "longest", "squash"]: ...
    @property
    def interpolation(self) -> Literal["bicubic", "bilinear", "nearest"]: ...
    @property
    def crop(self) -> float: ...


def evaluate(image: Image.Image, spec: Spec) -> Tensor:
    """The picture as pixels_CHW (float32, normalised), as open_clip's and timm's transforms give them bit for bit.

    Departs: colours become RGB before resizing, not after, so palettes are interpolated as colours; and of a picture
    slimmer than 64:1 only the middle is taken under `shortest`, which would keep no more of it anyway.
    """
    image, how = image.convert("RGB"), InterpolationMode(spec.interpolation)
    size = math.floor(spec.image_size / spec.crop)
    if spec.resize == "squash":
        image = ops.resize(image, [size, size], how)
    elif spec.resize == "longest":
        ratio = max(image.size) / size
        height, width = (max(1, round(side / ratio)) for side in (image.height, image.width))
        image = ops.resize(image, [height, width], how)
        left, top = (size - width) // 2, (size - height) // 2
        image = ops.pad(image, [left, top, size - width - left, size - height - top], fill=0)
    else:
        longest = SLIMMEST * min(image.size)
        if max(image.size) > longest:
            image = ops.center_crop(image, [min(image.height, longest), min(image.width, longest)])
        image = ops.resize(image, [size], how)
    image = ops.center_crop(image, [spec.image_size, spec.image_size])
    return _normal(image, spec)


def train(image: Image.Image, spec: Spec, key: tuple[int, ...]) -> Tensor:
    """A random crop of 90 to 100 % of the picture, resized, as pixels_CHW; the key decides which crop.

    The crop of FLYP and of open_clip's training (Goyal et al. 2023, arXiv:2212.00638, in the authors' code): no flip,
    no colours. Departs: RGB before resizing; and the encoder's own interpolation.
    """
    image = image.convert("RGB")
    top, left, height, width = crop_box(image.width, image.height, key_rng("crop", *key))
    size, how = [spec.image_size, spec.image_size], InterpolationMode(spec.interpolation)
    return _normal(ops.resized_crop(image, top, left, height, width, size, how), spec)


def crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop, drawn as torchvision's RandomResizedCrop draws it."""
    for _ in range(10):
        area = width * height * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    # no such crop fits a long picture: the middle, no slimmer than the ratio allows
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _normal(image: Image.Image, spec: Spec) -> Tensor:
    pixels_CHW: Tensor = ops.normalize(ops.to_tensor(image), list(spec.mean), list(spec.std))
    return pixels_CHW
