"""Features of what an encoder of ours was pretrained on, by which `likewise regime` says how far other pictures are.

    python tools/pretraining_features.py /tmp/icon-clip

WORK is where `pretrain_icon_clip.py` drew the corpus. 2,000 of its drawings, drawn by key and shown plainly (dark on
white), go through each encoder that ships; `reference.safetensors` (fp16) goes beside its weights.
"""

# B pictures, H height, N drawings, W width of a picture or of features.

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image

import icons
from likewise import files
from likewise.data.views import evaluate
from likewise.encoders import BUILT_IN, load
from likewise.keys import key_rng
from pretraining import read_corpus

COUNT = 2000


@torch.no_grad()
def main(work: Path) -> None:
    pictures, _ = read_corpus(work)
    rows = np.sort(key_rng("reference", len(pictures)).permutation(len(pictures))[:COUNT])
    for name, folder in BUILT_IN.items():
        encoder = load(name)
        parts = []
        for start in range(0, COUNT, 250):
            pixels = [
                evaluate(Image.fromarray(icons.on_white(pictures[i])), encoder.spec) for i in rows[start : start + 250]
            ]
            found = encoder.image(torch.stack(pixels)).pooled_BW
            assert found is not None
            parts.append(found)
        files.write_tensors(folder / "reference.safetensors", {"features_NW": torch.cat(parts).half()})
        typer.echo(f"{name}: {COUNT} drawings -> {folder / 'reference.safetensors'}")


if __name__ == "__main__":
    typer.run(main)
