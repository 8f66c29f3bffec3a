"""The tiny CLIP's answers from its tensors alone, by our names, in NumPy and double precision.

Another road than open_clip's modules, hooks and parametrizations: what stands in a tower is said as a function of a
place's input and output.
"""

# B sequences, C channels, D shared width, G patches a side, H heads, K width of a head, L tokens, P patch, W width.

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import erf, softmax
from torch import Tensor

Array = np.ndarray
Tensors = Mapping[str, Array]
Change = Callable[[str, Array, Array], Array]
"""(place, its input x, its output y) to the output that goes on."""
HEADS = {"image": 2, "text": 2}


def plain(_: str, __: Array, y: Array) -> Array:
    """Nothing is added."""
    return y


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().double().numpy() for name, tensor in tensors.items()}


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def norm(p: Tensors, name: str, x: Array) -> Array:
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return np.asarray(z * p[f"{name}.weight"] + p[f"{name}.bias"])


def linear(p: Tensors, name: str, x: Array) -> Array:
    return np.asarray(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])


def attention(p: Tensors, block: str, x_BLW: Array, heads: int, causal: bool) -> Array:
    b, length, width = x_BLW.shape
    q, k, v = (
        part.reshape(b, length, heads, width // heads).transpose(0, 2, 1, 3)
        for part in np.split(linear(p, f"{block}.qkv", x_BLW), 3, axis=-1)
    )
    score_BHLL = q @ k.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
    if causal:
        score_BHLL = np.where(np.tri(length, dtype=bool), score_BHLL, -np.inf)
    mixed_BLW = (softmax(score_BHLL, axis=-1) @ v).transpose(0, 2, 1, 3).reshape(b, length, width)
    return linear(p, f"{block}.out", mixed_BLW)


def blocks(p: Tensors, tower: str, x_BLW: Array, change: Change) -> Array:
    count = len({name.split(".")[1] for name in p if name.startswith(tower + ".") and name.split(".")[1].isdigit()})
    for block in (f"{tower}.{index}" for index in range(count)):
        start, inside = x_BLW, norm(p, f"{block}.norm1", x_BLW)
        answer = attention(p, block, inside, HEADS[tower], causal=tower == "text")
        x_BLW = x_BLW + change(f"{block}.attention", inside, answer)
        inside = norm(p, f"{block}.norm2", x_BLW)
        answer = linear(p, f"{block}.down", gelu(linear(p, f"{block}.up", inside)))
        x_BLW = x_BLW + change(f"{block}.mlp", inside, answer)
        x_BLW = change(f"{block}.block", start, x_BLW)
    return x_BLW


def image(p: Tensors, pixels_BCHW: Array, change: Change = plain) -> tuple[Array, Array]:
    """pooled_BW and shared_BD of pictures."""
    weight_WCPP = p["image.patch.weight"]
    b, c, side, _ = pixels_BCHW.shape
    patch = weight_WCPP.shape[-1]
    grid = side // patch
    cut = pixels_BCHW.reshape(b, c, grid, patch, grid, patch).transpose(0, 2, 4, 1, 3, 5).reshape(b, grid * grid, -1)
    tokens_BLW = cut @ weight_WCPP.reshape(len(weight_WCPP), -1).T
    first_B1W = np.broadcast_to(p["image.class"], (b, 1, len(p["image.class"])))
    x_BLW = np.concatenate([first_B1W, tokens_BLW], axis=1) + p["image.positions"]
    x_BLW = blocks(p, "image", norm(p, "image.norm_pre", x_BLW), change)
    pooled_BW = norm(p, "image.norm_post", x_BLW)[:, 0]
    return pooled_BW, pooled_BW @ p["image.projection"]


def text(p: Tensors, tokens_BL: Array, change: Change = plain) -> Array:
    """shared_BD of token ids, read at the end of each text, which has the largest id."""
    x_BLW = blocks(p, "text", p["text.tokens"][tokens_BL] + p["text.positions"], change)
    x_BLW = norm(p, "text.norm_post", x_BLW)
    return np.asarray(x_BLW[np.arange(len(tokens_BL)), tokens_BL.argmax(1)] @ p["text.projection"])


def class_rows(p: Tensors, tokens_CTL: Array, change: Change = plain) -> Array:
    """The text head's weight_CD: scale times the unit mean of a class's unit texts."""
    means = [unit(text(p, tokens_TL, change)).mean(0) for tokens_TL in tokens_CTL]
    return np.asarray(np.exp(p["scale"]) * unit(np.stack(means)))
