"""The whole adapted model, as `likewise adapt` keeps the chosen one: an open_clip folder that needs no base."""

from __future__ import annotations

from pathlib import Path

from likewise import files
from likewise.export.source import Shipped, check_free, open_source
from likewise.heads import HeadConfig
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
    left = [adapter.kind for adapter in there.adapters]
    if isinstance(source.recipe.head, HeadConfig):  # any other is built from the encoder that open_clip reads
        left.append(f"its {source.recipe.head.kind} head")
    if left:
        moved = there.values or there.adapters
        plain = "" if moved else ", as the pretrained encoder that it began as"
        said = f"open_clip would read it without {' and '.join(left)}{plain}"
        return Shipped(out, source.method, source.alpha, how, (said,))
    return Shipped(out, source.method, source.alpha, f"{how}, or {by_open_clip(out)}")


def by_open_clip(folder: Path) -> str:
    """How open_clip loads the folder: a tower of ours must be known to timm first."""
    tower = files.read_json(folder / "open_clip_config.json")["model_cfg"]["vision_cfg"].get("timm_model_name", "")
    first = "import likewise.encoders.icon_tower, then " if tower.startswith("likewise_") else ""
    return f'{first}open_clip.create_model_from_pretrained("local-dir:{folder}")'
