"""The whole adapted model, as `likewise adapt` keeps the chosen one: an open_clip folder that needs no base."""

from __future__ import annotations

from pathlib import Path

from likewise.export.source import Shipped, check_free, open_source
from likewise.run.artifact import save_point
from likewise.run.tuned import point


def write_merged(run: Path, out: Path, method: str | None = None, alpha: float | None = None) -> Shipped:
    """Write any method of a run, at any alpha of its path, with head, classes and spec (`run.artifact.save_point`).

    By default the run's choice. What folds into weights is folded; what does not is in `adapters.safetensors`, which
    open_clip does not read. Raises as `open_source` does, and R01 for a folder that holds something.
    """
    check_free(out)
    source = open_source(run, method, alpha)
    encoder = source.encoder()
    there = point(*source.tuned(encoder), source.alpha)
    about = {"classes": source.classes.tree(), "templates": list(source.templates), "method": source.method,
             "alpha": source.alpha}  # fmt: skip
    save_point(out, encoder, there, about)
    how = f"likewise predict {out} IMAGES..."
    if there.adapters:
        kinds = " and ".join(adapter.kind for adapter in there.adapters)
        return Shipped(out, source.method, source.alpha, how, (f"open_clip would read it without {kinds}",))
    how += f', or open_clip.create_model_from_pretrained("local-dir:{out}")'
    return Shipped(out, source.method, source.alpha, how)
