"""Pictures corrupted as Hendrycks and Dietterich did (2019, arXiv:1903.12261): 15 kinds, 5 severities, drawn by key.

Strengths are those of the authors' code for ImageNet-C, whose pictures are 224 pixels high and wide; lengths in pixels
grow and shrink with the shorter side, so a picture of any size is corrupted as far as one of that size.

Departs: pictures keep their own size; they are corrupted before they are resized for an encoder, not after; blurs are
of real lengths, in one convolution, with mirrored borders; glass moves pixels by fractions in place of swapping them;
fog is noise in octaves and not diamond-square; frost, whose photographs have no licence, is drawn (veins of noise,
bluish white); the elastic kind interpolates once; values are rounded, not cut off. Numbers are therefore not those of
ImageNet-C, though of the same order.
"""

# C colours, H height, K kernel height, L kernel width, W width.

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve

from likewise.errors import UsageError, near
from likewise.keys import Key, key_rng

SIDE, LONGEST = 224, 2048
SEVERITIES = (1, 2, 3, 4, 5)
GREY = np.array([0.299, 0.587, 0.114])
ICE = np.array([0.82, 0.92, 1.0])


def changed(image: Image.Image, change: str, key: str) -> Image.Image:
    """The picture under a change as a split names it, e.g. `fog-3:0`: kind, severity and seed; `key` is the record's.

    Raises `UsageError` U05 for a change that is not known.
    """
    kind, severity, seed = parsed(change)
    return corrupt(image, kind, severity, (seed, kind, severity, key))


def parsed(change: str) -> tuple[str, int, int]:
    """Kind, severity and seed. Raises `UsageError` U05."""
    form = re.fullmatch(r"(.+)-([1-5]):(-?\d+)", change)
    if form is None:
        raise UsageError("U05", f"«{change}» is no change of pictures. Write kind-severity:seed, for example fog-3:0.")
    return known(form[1]), int(form[2]), int(form[3])


def known(kind: str, words: Sequence[str] = ()) -> str:
    """The kind itself. Raises `UsageError` U05 for a word that is none; `words` could stand there too."""
    if kind not in KINDS:
        raise UsageError("U05", f"no corruption «{kind}».{near(kind, [*words, *KINDS])} There are {', '.join(KINDS)}.")
    return kind


def corrupt(image: Image.Image, kind: str, severity: int, key: tuple[Key, ...]) -> Image.Image:
    """An RGB picture of the same size, corrupted; the key decides whatever is random in it.

    Raises `UsageError` U05 for an unknown kind or a severity outside 1 to 5.
    """
    made, strengths = KINDS[known(kind)]
    if severity not in SEVERITIES:
        raise UsageError("U05", f"severity {severity} asked; there are {', '.join(map(str, SEVERITIES))}.")
    x_HWC = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return _picture(made(x_HWC, strengths[severity - 1], key_rng("corruption", *key)))


def _picture(x_HWC: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(x_HWC, 0, 1) * 255).astype(np.uint8))


def _scale(x_HWC: np.ndarray) -> float:
    return float(min(x_HWC.shape[:2])) / SIDE


def _frame(x_HWC: np.ndarray) -> tuple[int, int]:
    """Height and width at which the shorter side is 224; a very slim picture is squeezed."""
    rows, columns = (min(math.ceil(side / _scale(x_HWC)), LONGEST) for side in x_HWC.shape[:2])
    return rows, columns


# -- noise -----------------------------------------------------------------------------------------------------


def _gaussian(x_HWC: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    return x_HWC + std * rng.standard_normal(x_HWC.shape)


def _shot(x_HWC: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(x_HWC * photons) / photons


def _impulse(x_HWC: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """So many of all values become 0 or 1."""
    hit = rng.random(x_HWC.shape) < share
    return np.where(hit, rng.random(x_HWC.shape) < 0.5, x_HWC)


# -- blurs -----------------------------------------------------------------------------------------------------


def _convolved(x_HWC: np.ndarray, kernel_KL: np.ndarray) -> np.ndarray:
    """The picture under a kernel of odd sides, whose sum becomes 1."""
    rows, columns = (side // 2 for side in kernel_KL.shape)
    padded = np.pad(x_HWC, ((rows, rows), (columns, columns), (0, 0)), mode="symmetric")
    return np.asarray(fftconvolve(padded, kernel_KL[..., None] / kernel_KL.sum(), mode="valid", axes=(0, 1)))


def _defocus(x_HWC: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """A disk, its rim in the share that it covers."""
    radius *= _scale(x_HWC)
    reach = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    return _convolved(x_HWC, np.clip(radius + 0.5 - np.hypot(*np.meshgrid(reach, reach)), 0, 1))


def _glass(x_HWC: np.ndarray, c: tuple[float, float, int], rng: np.random.Generator) -> np.ndarray:
    std, far = c[0] * _scale(x_HWC), c[1] * _scale(x_HWC)
    x_HWC = gaussian_filter(x_HWC, (std, std, 0))
    for _ in range(c[2]):
        x_HWC = _sampled(x_HWC, _grid(x_HWC) + rng.uniform(-far, far, (2, *x_HWC.shape[:2])))
    return np.asarray(gaussian_filter(x_HWC, (std, std, 0)))


def _streak(radius: float, std: float, degrees: float) -> np.ndarray:
    """A kernel that falls off to one side along a line, each of its points shared among the four pixels around it."""
    steps = np.arange(0, 2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * std**2))
    half = math.ceil(2 * radius) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    y, x = half - steps * math.sin(math.radians(degrees)), half + steps * math.cos(math.radians(degrees))
    for row, dy in ((np.floor(y), 1 - y % 1), (np.floor(y) + 1, y % 1)):
        for column, dx in ((np.floor(x), 1 - x % 1), (np.floor(x) + 1, x % 1)):
            inside = dy * dx > 0
            np.add.at(kernel, (row[inside].astype(int), column[inside].astype(int)), (weights * dy * dx)[inside])
    return kernel


def _motion(x_HWC: np.ndarray, c: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    scale = _scale(x_HWC)
    return _convolved(x_HWC, _streak(c[0] * scale, c[1] * scale, rng.uniform(-45, 45)))


def _zoom(x_HWC: np.ndarray, c: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """The mean of the picture and of itself ever nearer, up to a factor, by steps."""
    factors = np.arange(1, *c)
    return (x_HWC + sum(_nearer(x_HWC, float(factor)) for factor in factors)) / (len(factors) + 1)


def _nearer(x_HWC: np.ndarray, factor: float) -> np.ndarray:
    """The middle of the picture at its whole size."""
    height, width, _ = x_HWC.shape
    left, top = (width - width / factor) / 2, (height - height / factor) / 2
    return _resized(x_HWC, width, height, (left, top, width - left, height - top))


def _resized(
    x_HWC: np.ndarray, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    layers = (Image.fromarray(np.ascontiguousarray(x_HWC[..., c], dtype=np.float32)) for c in range(x_HWC.shape[2]))
    resized = (np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR, box)) for layer in layers)
    return np.stack(list(resized), axis=2)


# -- weather ---------------------------------------------------------------------------------------------------


def _clouds(height: int, width: int, fall: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in 0 to 1, the same whatever the size: each octave is `fall` squared times weaker than the last."""
    side = max(height, width)
    total = np.zeros((side, side, 1))
    for octave in range(1, 11):
        points = rng.uniform(-1, 1, (2**octave + 1, 2**octave + 1, 1)) * fall ** (-2 * octave)
        if 2**octave <= 2 * side:
            total += _resized(points, side, side)
    total = total[:height, :width]
    return np.asarray((total - total.min()) / max(np.ptp(total), 1e-12))


def _snow(x_HWC: np.ndarray, c: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """Flakes that fall aslant, in front and behind, over a picture made whiter."""
    mean, std, size, least, radius, sigma, keep = c
    flakes = _nearer(mean + std * rng.standard_normal((*_frame(x_HWC), 1)), size)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = _convolved(flakes, _streak(radius, sigma, rng.uniform(-135, -45)))
    flakes = _resized(flakes, x_HWC.shape[1], x_HWC.shape[0])
    white = np.maximum(x_HWC, (x_HWC @ GREY)[..., None] * 1.5 + 0.5)
    return np.asarray(keep * x_HWC + (1 - keep) * white + flakes + np.rot90(flakes, 2))


def _frost(x_HWC: np.ndarray, c: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    height, width, _ = x_HWC.shape
    veins, grain = _clouds(height, width, 1.3, rng), _clouds(height, width, 1.1, rng)
    ice = np.clip(0.2 + 0.5 * grain + 0.7 * (1 - abs(2 * veins - 1)) ** 8, 0, 1) * ICE
    return np.asarray(c[0] * x_HWC + c[1] * ice)


def _fog(x_HWC: np.ndarray, c: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    (height, width), brightest = x_HWC.shape[:2], x_HWC.max()
    return np.asarray((x_HWC + c[0] * _clouds(height, width, c[1], rng)) * brightest / (brightest + c[0]))


def _brightness(x_HWC: np.ndarray, more: float, rng: np.random.Generator) -> np.ndarray:
    """The value of hue, saturation, value: the largest colour grows, the others in proportion; black becomes grey."""
    value = x_HWC.max(axis=2, keepdims=True)
    lighter = np.minimum(value + more, 1)
    return np.asarray(np.where(value > 0, x_HWC * lighter / np.where(value > 0, value, 1), lighter))


# -- digital ---------------------------------------------------------------------------------------------------


def _contrast(x_HWC: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    mean = x_HWC.mean(axis=(0, 1), keepdims=True, dtype=np.float64)
    return np.asarray((x_HWC - mean) * share + mean)


def _grid(x_HWC: np.ndarray) -> np.ndarray:
    return np.indices(x_HWC.shape[:2]).astype(np.float64)


def _sampled(x_HWC: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Colours at real places (2 x H x W), borders mirrored."""
    return np.stack([map_coordinates(x_HWC[..., c], places, order=1, mode="mirror") for c in range(3)], axis=2)


def _elastic(x_HWC: np.ndarray, c: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """An affine move of three points, then a smooth field of moves."""
    height, width, _ = x_HWC.shape
    strength, smooth, corner = (part * 244 for part in c)  # of 224: their slip of the pen, as they left it
    middle, third = np.array([height // 2, width // 2]), min(height, width) // 3
    before = middle + third * np.array([[1, 1], [1, -1], [-1, -1]])
    after = before + rng.uniform(-corner, corner, before.shape) * _scale(x_HWC)
    # rows are points (y, x, 1); the picture is read backwards, at the place from which each pixel came
    back, *_ = np.linalg.lstsq(np.c_[after, np.ones(3)], before, rcond=None)
    noise = rng.uniform(-1, 1, (*_frame(x_HWC), 2))
    field = gaussian_filter(noise, (smooth, smooth, 0), mode="reflect", truncate=3) * strength * _scale(x_HWC)
    at = _grid(x_HWC) + np.moveaxis(_resized(field, width, height), 2, 0)
    return _sampled(x_HWC, np.einsum("ihw,ij->jhw", np.stack([*at, np.ones((height, width))]), back))


def _pixelate(x_HWC: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    image, box = _picture(x_HWC), Image.Resampling.BOX
    small = image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))), box)
    return np.asarray(small.resize(image.size, box)) / 255


def _jpeg(x_HWC: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    _picture(x_HWC).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


KINDS: dict[str, tuple[Callable[[np.ndarray, Any, np.random.Generator], np.ndarray], tuple[Any, ...]]] = {
    "gaussian-noise": (_gaussian, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot-noise": (_shot, (60, 25, 12, 5, 3)),
    "impulse-noise": (_impulse, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus-blur": (_defocus, (3, 4, 6, 8, 10)),
    "glass-blur": (_glass, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion-blur": (_motion, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom-blur": (_zoom, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": (_snow, ((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                     (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55))),
    "frost": (_frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": (_fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic": (_elastic, ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": (_jpeg, (25, 18, 15, 10, 7)),
}  # fmt: skip
"""How each kind is made, and with what strength at each severity."""
