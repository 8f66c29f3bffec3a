"""A delta: what trained and nothing else, beside what must be known to put it on the same base again."""

from __future__ import annotations

from pathlib import Path

from likewise import files
from likewise.adapters import add
from likewise.config import Config
from likewise.data.records import ClassTable
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.errors import ConfigError, UsageError
from likewise.export.source import Shipped, check_alpha, check_base, check_free, job_for, open_source
from likewise.recipe import Recipe
from likewise.run import tuned
from likewise.run.artifact import Card, Predictor

FORMAT = 1
"""Of `delta.json`; a change of meaning raises it."""


class Delta(Config):
    """`delta.json`: which base, by content, and which point of which method's path."""

    format: int = FORMAT
    base: dict[str, str]
    """`name`, `weights` (SHA-256 of all numbers under our names) and `digest` (of the whole description)."""
    recipe: Recipe
    method: str
    alpha: float | None
    seed: int
    classes: ClassTable
    templates: tuple[str, ...]


def write_delta(run: Path, out: Path, method: str | None = None, alpha: float | None = None) -> Shipped:
    """Write `delta.safetensors` (our names, `adapters.*`, `head.*`), `about.json` of its training and `delta.json`.

    The tensors are the tuned end of the path, so that every alpha can be read from them; `alpha` says which is meant.
    By default the run's choice. Raises as `open_source` does, and R01 for a folder that holds something.
    """
    check_free(out)
    source = open_source(run, method, alpha)
    about = Delta(
        base=source.about["base"], recipe=source.recipe, method=source.method, alpha=source.alpha,
        seed=source.experiment.seed, classes=source.classes, templates=source.templates,
    )  # fmt: skip
    with files.new_folder(out) as fresh:
        for name in ("delta.safetensors", "about.json"):
            files.write_bytes(fresh / name, (source.folder / name).read_bytes())
        files.write_json(fresh / "delta.json", about.tree())
    base = f"on {about.base['name']}, weights sha256 {about.base['weights'][:12]}..."
    return Shipped(out, source.method, source.alpha, f'likewise.export.read_delta("{out}")', (base,))


def read_delta(folder: Path | str, encoder: Encoder | None = None, alpha: float | None = None) -> Predictor:
    """The adapted model: the delta put on `encoder`, which is changed, or on the base loaded by its name.

    `alpha` asks for another point of its path than the one meant. Raises M01 for a folder without a delta, M02 for one
    that is damaged or of another format, and for an encoder that is not the base; as `check_alpha` does.
    """
    folder = Path(folder)
    if not (folder / "delta.json").exists():
        raise UsageError("M01", f"{folder} holds no delta. Give the folder that likewise export --format delta wrote.")
    if not files.whole(folder):
        raise ConfigError(f"{folder} was cut off or changed after it was written; its manifest does not verify.", "M02")
    tree = files.read_json(folder / "delta.json")
    if tree.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} has format {tree.get('format')}; this version reads {FORMAT}. Export it again.", "M02"
        )
    about = Delta.parse(tree, str(folder / "delta.json"))
    check_alpha(about.recipe, alpha, about.method)
    encoder = encoder if encoder is not None else load(about.base["name"])
    check_base(encoder, about.base, str(folder))
    job = job_for(encoder, about.classes, about.templates, about.seed)
    left = tuned.read(about.recipe, folder, job, files.read_json(folder / "about.json")["identity"])
    alpha = about.alpha if alpha is None else alpha
    there = tuned.point(left, job, alpha)
    encoder.put(there.values)
    add(encoder, there.adapters, about.seed)
    encoder.put(there.added)
    card = Card(
        spec=encoder.spec, base=encoder.spec, classes=about.classes, templates=about.templates, method=about.method,
        alpha=alpha, head=there.head.config, adapters=there.adapters,
    )  # fmt: skip
    return Predictor(encoder, there.head, card)
