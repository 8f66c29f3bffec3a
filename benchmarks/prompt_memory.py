"""How much memory a step of prompt tuning takes, by number of classes: text is encoded in chunks and recomputed.

    python benchmarks/prompt_memory.py [--classes 1000] [--batch 32] [--chunk 128]

One step of Kim's prompt on ViT-B/16 (random weights: memory does not depend on them), forward and backward, batch and
classes as given, in a process of its own; prints the most memory that process held, and the same for all texts at once.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Annotated

import typer


def step(classes: int, batch: int, chunk: int) -> None:
    """One step in this process; prints peak gigabytes, seconds and the loss."""
    import torch

    from likewise.adapters import Prompt, grafted
    from likewise.encoders import load
    from likewise.heads import encode, unit
    from likewise.losses import cross_entropy

    encoder = load("open_clip:ViT-B-16", weights=False)
    prompt = Prompt(length=8)
    with grafted(encoder, [prompt]):
        for parameter in encoder.grafts.parameters_by_name().values():
            parameter.requires_grad_(True)
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        texts = prompt.texts([f"thing number {i}" for i in range(classes)])
        tokens_CL = encoder.tokenize([text for (text,) in texts])
        size = encoder.spec.image_size
        pixels_BCHW = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            image_BD = unit(encoder.image(pixels_BCHW).shared_BD)
        logits_BC = encoder.scale * image_BD @ encode(encoder, tokens_CL, chunk).T
        loss = cross_entropy(logits_BC, torch.arange(batch) % classes)
        loss.backward()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = {"classes": classes, "chunk": chunk, "peak_gb": peak / 2**20, "loaded_gb": loaded / 2**20,
                 "seconds": time.monotonic() - began, "loss": loss.item()}  # fmt: skip
    print(json.dumps(found))


def main(
    classes: int = 1000, batch: int = 32, chunk: int = 128,
    whole: Annotated[bool, typer.Option(help="Also with all texts at once.")] = True,
    inner: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:  # fmt: skip
    if inner:
        step(classes, batch, chunk)
        return
    rows = []
    for size in (chunk, classes) if whole else (chunk,):
        command = [
            sys.executable,
            __file__,
            "--inner",
            "--classes",
            str(classes),
            "--batch",
            str(batch),
            "--chunk",
            str(size),
        ]
        rows.append(
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})
    losses = {round(row["loss"], 4) for row in rows}
    assert len(losses) == 1, f"the two ways disagree: {losses}"


if __name__ == "__main__":
    typer.run(main)
