"""One method on one data set: its stages trained, resumable, into a folder; and the points of its WiSE path."""

# N training pictures, D shared width.

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from likewise import files
from likewise.config import fingerprint
from likewise.errors import UsageError
from likewise.heads import BuiltHead, Linear, LinearHead, Neighbours, NeighboursHead, Text, text_head, unit
from likewise.merging import lerp
from likewise.predict import Candidate, features
from likewise.recipe import Lbfgs, Recipe
from likewise.run.stage import Job, StageRun, TooSlow


@dataclass
class Tuned:
    """What training left: values by our names (those that trained), the head, and what it cost."""

    recipe: Recipe
    values: dict[str, Tensor]
    head: BuiltHead | None
    """None for a text head, which is rebuilt from the towers."""
    trained: int
    seconds: float
    notes: dict[str, float]

    @property
    def kept(self) -> int:
        """How many numbers the method adds to the pretrained model: those that trained, or the neighbours' bank."""
        return self.head.bank_ND.numel() if isinstance(self.head, NeighboursHead) else self.trained


def fit_method(name: str, recipe: Recipe, job: Job, folder: Path) -> Tuned:
    """Train the recipe from the job's encoder, which is left as it was; or read what an earlier call finished.

    Writes `plan.json`, `journal.jsonl`, `checkpoints/` while it trains and `tuned/` in the end. Raises `Interrupted`
    (4) after a checkpoint when a stop was asked for, `TooSlow` at the deadline.
    """
    identity = fingerprint([recipe.tree(), job.encoder.spec.digest, job.data.train.digest, job.seed])
    if files.whole(folder / "tuned"):
        return _read(recipe, folder / "tuned", len(job.prompts), identity)
    if any(stage.fit for stage in recipe.stages) and time.monotonic() > job.deadline:
        raise TooSlow("T01", f"{name} was not begun: the time limit has passed.")
    folder.mkdir(parents=True, exist_ok=True)
    before = job.encoder.state()
    names: dict[str, int] = {}
    head: LinearHead | None = None
    built: BuiltHead | None = None
    notes: dict[str, float] = {}
    seconds = 0.0
    try:
        for index, stage in enumerate(recipe.stages):
            if isinstance(stage.head, Linear):
                head = _start(stage.head, job)
            elif isinstance(stage.head, Text):
                head = None
            if isinstance(stage.head, Neighbours):
                shared_ND = features(job.encoder, job.data.train, **job.reading)
                labels_N = torch.from_numpy(job.data.train.labels_N)
                built = NeighboursHead(unit(shared_ND), labels_N, len(job.prompts), stage.head)
            if stage.fit is None:
                continue
            runner = StageRun(name, index, stage, head, job, folder, identity)
            names |= dict(zip(runner.plan.trains, runner.plan.counts, strict=True))
            seconds += runner.solve(notes) if isinstance(stage.fit, Lbfgs) else runner.train()
        mine = [n for n in names if not n.startswith("head.")]
        tuned = Tuned(recipe, job.encoder.state(mine), built or head, sum(names.values()), seconds, notes)
    finally:
        job.encoder.put(before)
        for parameter in job.encoder.parameters_by_name().values():
            parameter.requires_grad_(False)
    _write(tuned, folder, identity)
    return tuned


def _start(head: Linear, job: Job) -> LinearHead:
    zero = text_head(job.encoder, job.prompts)
    if head.start == "zeros":
        zero = LinearHead(torch.zeros_like(zero.weight), torch.zeros_like(zero.bias))
    return zero.to(job.encoder.device)


def _write(tuned: Tuned, folder: Path, identity: str) -> None:
    with files.new_folder(folder / "tuned") as fresh:
        head = {f"head.{k}": v for k, v in tuned.head.state_dict().items()} if tuned.head is not None else {}
        files.write_tensors(fresh / "delta.safetensors", {**tuned.values, **head}, {"identity": identity})
        about = {"identity": identity, "recipe": tuned.recipe.tree(), "trained": tuned.trained,
                 "seconds": tuned.seconds, "notes": tuned.notes}  # fmt: skip
        files.write_json(fresh / "about.json", about)
    files.remove(folder / "checkpoints")


def _read(recipe: Recipe, path: Path, classes: int, identity: str) -> Tuned:
    about = files.read_json(path / "about.json")
    if about["identity"] != identity:
        raise UsageError("R01", f"{path} was made by another experiment. Use another output folder, or --overwrite.")
    tensors = files.read_tensors(path / "delta.safetensors")
    mine = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
    values = {name: t for name, t in tensors.items() if not name.startswith("head.")}
    head: BuiltHead | None = None
    if isinstance(recipe.head, Neighbours):
        head = NeighboursHead(mine["bank_ND"], mine["labels_N"], classes, recipe.head)
    elif mine:
        head = LinearHead(mine["weight"], mine["bias"])
    return Tuned(recipe, values, head, about["trained"], about["seconds"], about["notes"])


def points(tuned: Tuned, job: Job, alphas: Iterable[float]) -> dict[float | None, Candidate]:
    """The models on the method's WiSE path, by alpha; a method without a path has one, under None.

    The line runs from the job's encoder with its text head (0) to what training left (1), bitwise at both ends.
    """
    zero = job.encoder.state(list(tuned.values))
    out: dict[float | None, Candidate] = {}
    chosen: list[float | None] = [None] if tuned.recipe.merge is None else list(alphas)
    for alpha in chosen:
        values = lerp(zero, tuned.values, 1.0 if alpha is None else alpha)
        if tuned.head is None:
            job.encoder.put(values)
            head: BuiltHead = text_head(job.encoder, job.prompts)
            job.encoder.put(zero)
        elif isinstance(tuned.head, LinearHead) and alpha is not None:
            ends = text_head(job.encoder, job.prompts).state_dict(), tuned.head.state_dict()
            line = lerp(*ends, alpha)
            head = LinearHead(line["weight"], line["bias"])
        else:
            head = tuned.head
        image = {name: value for name, value in values.items() if name.startswith("image.")}
        out[alpha] = Candidate(image, head)
    return out
