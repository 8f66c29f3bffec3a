"""What training a method leaves: written as a delta on the base, read again, and the points of its path to the base."""

# N pictures, D feature width.

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from likewise import files
from likewise.adapters import AdapterConfig, grafted
from likewise.config import fingerprint
from likewise.encoder import Encoder
from likewise.errors import UsageError
from likewise.heads import HeadConfig, HeadModule, text_head
from likewise.merging import lerp, lines
from likewise.names import tower_of
from likewise.predict import Candidate
from likewise.recipe import Recipe
from likewise.run.stage import Job


@dataclass
class Tuned:
    """What training left: values by our names (those that trained), the head, and what it cost."""

    recipe: Recipe
    values: dict[str, Tensor]
    head: HeadModule | None
    """None for a text head, which is rebuilt from the towers."""
    trained: int
    seconds: float
    notes: dict[str, float]

    @property
    def kept(self) -> int:
        """How many numbers the method adds to the pretrained model: those that trained, or its head keeps."""
        return max(self.trained, self.head.keeps if self.head is not None else 0)


def identity_of(recipe: Recipe, job: Job) -> str:
    """What decides the outcome: recipe, encoder, pictures (replayed ones too), prompts and seed."""
    parts = [
        recipe.tree(),
        job.encoder.spec.digest,
        job.data.train.digest,
        job.data.select.digest,
        job.prompts,
        job.seed,
        *([job.replayed.digest] if job.replayed is not None else []),
        *([list(job.kin)] if job.kin is not None else []),
    ]
    return fingerprint(parts)


def write(tuned: Tuned, folder: Path, job: Job, identity: str) -> None:
    """The delta: what was trained, and what must be known to put it on the same base again."""
    with files.new_folder(folder / "tuned") as fresh:
        head = {f"head.{k}": v for k, v in tuned.head.state_dict().items()} if tuned.head is not None else {}
        files.write_tensors(fresh / "delta.safetensors", {**tuned.values, **head}, {"identity": identity})
        about = {"identity": identity, "recipe": tuned.recipe.tree(), "trained": tuned.trained,
                 "seconds": tuned.seconds, "notes": tuned.notes, "seed": job.seed,
                 "base": {"name": job.encoder.spec.name, "weights": job.encoder.spec.weights,
                          "digest": job.encoder.spec.digest}}  # fmt: skip
        files.write_json(fresh / "about.json", about)
    files.remove(folder / "checkpoints")


def read(recipe: Recipe, path: Path, job: Job, identity: str) -> Tuned:
    """What `write` wrote. Raises R01 for another experiment's."""
    about = files.read_json(path / "about.json")
    if about["identity"] != identity:
        raise UsageError("R01", f"{path} was made by another experiment. Use another output folder, or --overwrite.")
    tensors = files.read_tensors(path / "delta.safetensors")
    mine = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
    values = {name: t for name, t in tensors.items() if not name.startswith("head.")}
    head = recipe.head.load(mine, job.encoder, len(job.prompts)) if isinstance(recipe.head, HeadConfig) else None
    return Tuned(recipe, values, head, about["trained"], about["seconds"], about["notes"])


def stored(folder: Path, encoder: Encoder) -> Tuned:
    """What a method that needs no head left, for an encoder that may lack what was new beside it (a projection)."""
    about = files.read_json(folder / "tuned" / "about.json")
    tensors = files.read_tensors(folder / "tuned" / "delta.safetensors")
    values = {name: t for name, t in tensors.items() if name in encoder.sites or name.startswith("adapters.")}
    recipe = Recipe.parse(about["recipe"], str(folder))
    return Tuned(recipe, values, None, about["trained"], about["seconds"], about["notes"])


class Parts(NamedTuple):
    """An encoder on a method's path: weights by our names all that folds folded in; what does not, beside."""

    values: dict[str, Tensor]
    adapters: tuple[AdapterConfig, ...]
    added: dict[str, Tensor]


class Point(NamedTuple):
    """A model on a method's path: `Parts`, and its head."""

    values: dict[str, Tensor]
    adapters: tuple[AdapterConfig, ...]
    added: dict[str, Tensor]
    head: HeadModule

    def candidate(self) -> Candidate:
        """What is needed to ask it about pictures: the image tower alone, unless its head asks the text tower."""
        if self.head.config.live_text:
            return Candidate({**self.values, **self.added}, self.head, self.adapters)
        image = {name: value for name, value in self.values.items() if tower_of(name) == "image"}
        kinds = {name.split(".")[1] for name in self.added if tower_of(name) in ("image", "both")}
        added = {name: value for name, value in self.added.items() if name.split(".")[1] in kinds}
        return Candidate({**image, **added}, self.head, tuple(a for a in self.adapters if a.kind in kinds))


def point(tuned: Tuned, job: Job, alpha: float | None) -> Point:
    """The model at `alpha` of the way from the job's encoder with its text head (0) to what training left (1).

    Plain numbers go along the straight line; of an adapter, those in which it is linear are scaled, the others stay.
    """
    encoder, classes = job.encoder, len(job.prompts)
    if tuned.head is None:
        with standing(tuned, encoder, alpha, classes, job.seed):
            head: HeadModule = text_head(encoder, job.prompts_of(tuned.recipe.adapters))
    else:
        head = tuned.head if alpha is None else tuned.head.at(alpha, text_head(encoder, job.prompts))
    return Point(*parts(tuned, encoder, alpha, classes, job.seed), head)


def parts(tuned: Tuned, encoder: Encoder, alpha: float | None, classes: int = 1, seed: int = 0) -> Parts:
    """The encoder at `alpha`, in parts that can be put and written; it is left as it was."""
    adapters = tuple(adapter.for_classes(classes) for adapter in tuned.recipe.adapters)
    zero = encoder.state([name for name in tuned.values if name in encoder.sites])
    there = along(tuned, encoder, alpha)
    try:
        with grafted(encoder, adapters, seed):
            encoder.put(there)
            # An adapter folds when it acts on nothing but weights: they are then read with it in them.
            loose = {name.split(".")[0] for name, seam in encoder.grafts.seams.items() if seam in ("token", "module")}
            numbers = {n: p.detach().clone() for n, p in encoder.grafts.parameters_by_name().items()}
        with grafted(encoder, [a for a in adapters if a.kind not in loose], seed):
            encoder.put({n: value for n, value in numbers.items() if n.split(".")[1] not in loose})
            values = encoder.state(list(zero)) | encoder.folded()
    finally:
        encoder.put(zero)
    added = {n: value for n, value in numbers.items() if n.split(".")[1] in loose}
    return Parts(values, tuple(a for a in adapters if a.kind in loose), added)


@contextlib.contextmanager
def standing(tuned: Tuned, encoder: Encoder, alpha: float | None, classes: int = 1, seed: int = 0) -> Iterator[None]:
    """Inside, the encoder is at `alpha` of the way from what it was (0) to what training left (1, or None).

    At 0 nothing is grafted, and only what no pretraining has seen is put in.
    """
    alpha = 1.0 if alpha is None else alpha
    there = along(tuned, encoder, alpha)
    zero = encoder.state([name for name in there if name in encoder.sites])
    adapters = [adapter.for_classes(classes) for adapter in tuned.recipe.adapters] if alpha else []
    try:
        with grafted(encoder, adapters, seed):
            encoder.put({name: value for name, value in there.items() if alpha or name in encoder.sites})
            yield
    finally:
        encoder.put(zero)


def along(tuned: Tuned, encoder: Encoder, alpha: float | None) -> dict[str, Tensor]:
    """The numbers that trained, at `alpha` of the way from the encoder as it is; nothing is folded or written."""
    alpha = 1.0 if alpha is None else alpha
    scaled = {adapter.kind: adapter for adapter in tuned.recipe.adapters}
    zero = {name: p.detach() for name, p in encoder.parameters_by_name().items() if name in tuned.values}
    for name, end in tuned.values.items():
        if name in encoder.new:
            zero[name] = end
        elif name not in encoder.sites:
            zero[name] = torch.zeros_like(end) if scaled[name.split(".")[1]].in_line(name) else end
    merge = tuned.recipe.merge
    if merge is None or merge.first == 1:
        return lerp(zero, tuned.values, alpha)
    return lines(zero, tuned.values, alpha, merge.first, {t: encoder.blocks(t) for t in ("image", "text")})


def points(tuned: Tuned, job: Job, alphas: Iterable[float]) -> dict[float | None, Candidate]:
    """The models on the method's WiSE path, by alpha; a method without a path has one, under None.

    Bitwise the pretrained model at 0 and, where nothing is folded, the trained one at 1.
    """
    chosen: list[float | None] = [None] if tuned.recipe.merge is None else list(alphas)
    return {alpha: point(tuned, job, alpha).candidate() for alpha in chosen}
