"""One stage of one method in its folder: solved or trained, with checkpoints and a journal."""

# D feature width, N training pictures.

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from likewise import files
from likewise.adapters import AdapterConfig, texts_of
from likewise.data.prompts import fill
from likewise.data.records import Dataset, Split
from likewise.encoder import Encoder
from likewise.errors import Interrupted, LikewiseError, UsageError
from likewise.fit import Training, Work
from likewise.heads import HeadModule, LinearHead, LpPlusHead, Reads, Text, steps
from likewise.metrics import accuracy
from likewise.predict import features, head_logits, text_rows
from likewise.recipe import Lbfgs, Machine, Majorize, Stage
from likewise.run.watch import Stop, Watch
from likewise.solve import lbfgs_path

LOOK = 10
"""Epochs of LP++ between two looks at the select split."""


class TooSlow(LikewiseError):
    """A method that would not end within the time limit; it is left out and never scored."""

    exit_code = 1


class Begun(NamedTuple):
    """A finished first stage: trained values by our names, head tensors, seconds, notes and journal."""

    values: dict[str, Tensor]
    head: dict[str, Tensor]
    seconds: float
    notes: dict[str, float]
    journal: str


@dataclass
class Job:
    """What every method of a run shares. `prompts` are the filled templates, per class."""

    encoder: Encoder
    data: Dataset
    prompts: Sequence[Sequence[str]]
    seed: int
    machine: Machine
    watch: Watch
    stop: Stop
    deadline: float = float("inf")
    """On `time.monotonic()`; a stage that would end later is not begun or not finished."""
    repeated: frozenset[str] = frozenset()
    """First stages with which several methods begin; `begun` is what they left, so each is trained once."""
    begun: dict[str, Begun] = field(default_factory=dict)
    replayed: Split | None = None
    """Pictures that replay rehearses; None: the training pictures."""
    kin: Sequence[int] | None = None
    """Where pictures are classes: which of them share their texts, by equal numbers."""

    @property
    def reading(self) -> dict[str, Any]:
        """How pictures are read: keyword arguments of `predict` and `features`. A stop asked for is heard."""

        def progress(done: int, total: int) -> None:
            self.heed(f"while reading pictures ({done} of {total})")

        return {"batch": self.machine.eval_batch, "workers": self.machine.workers, "progress": progress}

    def heed(self, where: str) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.stop.asked:
            raise Interrupted("I01", f"Stopped {where}.")

    def train_features(self, reads: Reads) -> Tensor:
        """The training pictures' features in the evaluation view, of the encoder as it now is."""
        return features(self.encoder, self.data.train, reads, **self.reading)

    def text_rows(self, texts: Sequence[str]) -> Tensor:
        """The text tower's unit rows of texts, of the encoder as it now is."""
        return text_rows(self.encoder, texts)

    def prompts_of(self, adapters: Sequence[AdapterConfig]) -> Sequence[Sequence[str]]:
        """The class prompts to predict with: those that an adapter brings, else the data's."""
        return texts_of(adapters, self.data.classes.names) or self.prompts

    def captions_of(self, stage: Stage, adapters: Sequence[AdapterConfig]) -> Sequence[Sequence[str]]:
        """The class texts to train with: an adapter's, the stage's own templates, or the data's."""
        own = stage.head.templates if isinstance(stage.head, Text) else ()
        return texts_of(adapters, self.data.classes.names) or (
            fill(own, self.data.classes.names) if own else self.prompts
        )


class StageRun:
    """One stage of one method: its work, checkpoints and journal."""

    def __init__(self, name: str, index: int, work: Work, job: Job, folder: Path, identity: str) -> None:
        self.name, self.index, self.work, self.job = name, index, work, job
        self.folder, self.identity = folder, identity
        self.plan = work.plan()
        files.write_json(folder / f"plan-{index}.json", self.plan.tree())

    def solve(self, notes: dict[str, float]) -> float:
        """A head on constant features, by its solver; the solution with the best select accuracy. Returns seconds."""
        began = time.monotonic()
        job, fit, head = self.job, self.work.stage.fit, self.work.head
        assert head is not None
        reads = head.config.reads
        train_ND = job.train_features(reads)
        select_ND = features(job.encoder, job.data.select, reads, **job.reading)
        labels_N = torch.from_numpy(job.data.train.labels_N)
        found = (
            _path(train_ND, labels_N, head, fit) if isinstance(fit, Lbfgs) else _epochs(train_ND, labels_N, head, fit)
        )
        best, kept = -1.0, {}
        rows = []
        for step, (total, note, objective) in enumerate(found):
            said = head_logits(head, select_ND, job.data.select)
            share = accuracy(said.logits_NC, said.labels_N).value
            rows.append({"stage": self.index, "step": step, "loss": objective, **note, "select": share})
            if share > best:  # from strong to weak penalty, from few epochs to many: of equals the first stays
                best, kept = share, {name: tensor.clone() for name, tensor in head.state_dict().items()}
                notes |= {{"c": "C"}.get(name, name): value for name, value in note.items()}
            shown = " ".join(f"{name}={value:g}" for name, value in note.items())
            job.watch.bar(self.name, step + 1, total, shown)
            job.heed(f"in {self.name} at {shown}")
        head.load_state_dict(kept)
        self._write_journal(rows)
        return time.monotonic() - began

    def train(self, last: bool) -> float:
        """Steps from the newest whole checkpoint, or from the start. Returns seconds, of earlier attempts too.

        The last stage leaves no checkpoint at its end: its result is written next.
        """
        training = Training(self.work)
        spent = self._restore(training)
        job, began, saved = self.job, time.monotonic(), time.monotonic()
        first = training.step
        rows: list[dict[str, float]] = []
        for step in training.run():
            rows.append({"stage": self.index, **step._asdict()})
            job.watch.bar(self.name, training.step, training.total, f"loss {step.loss:.3f}")
            now = time.monotonic()
            by_step = job.machine.save_steps and training.step % job.machine.save_steps == 0
            if by_step or now - saved > job.machine.save_seconds or job.stop.asked:
                self._save(training, spent + now - began, rows)
                saved, rows = time.monotonic(), []
            if job.stop.asked:
                raise Interrupted("I01", f"Stopped in {self.name} at step {training.step} of {training.total}.")
            done = training.step - first
            if done >= 5 and now + (now - began) / done * (training.total - training.step) > job.deadline:
                raise TooSlow(
                    "T01",
                    f"{self.name} would not end within the time limit (step {training.step} of {training.total}).",
                )
        spent += time.monotonic() - began
        if last:
            self._write_journal(self._lines(training.step - len(rows)) + rows)
        else:
            self._save(training, spent, rows)
        return spent

    def _checkpoints(self) -> list[Path]:
        found = (self.folder / "checkpoints").glob(f"{self.index}-*")
        return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)

    def _save(self, training: Training, seconds: float, rows: list[dict[str, float]]) -> None:
        """A checkpoint: tensors, step, and the journal's new lines, all or nothing. The one before is kept too."""
        path = self.folder / "checkpoints" / f"{self.index}-{training.step}"
        if not files.whole(path):
            with files.new_folder(path) as fresh:
                files.write_tensors(fresh / "state.safetensors", training.tensors())
                about = {"identity": self.identity, "step": training.step, "bad": training.bad, "seconds": seconds,
                         "journal": self._lines(training.step - len(rows)) + rows}  # fmt: skip
                files.write_json(fresh / "about.json", about)
        self._write_journal(files.read_json(path / "about.json")["journal"])
        for old in self._checkpoints()[2:]:
            files.remove(old)

    def _restore(self, training: Training) -> float:
        for path in self._checkpoints():
            if not files.whole(path):
                self.job.watch.say(f"checkpoint {path} is damaged; going back to the one before")
                continue
            about = files.read_json(path / "about.json")
            if about["identity"] != self.identity:
                raise UsageError(
                    "R01", f"{path} belongs to another experiment (recipe, encoder, data or seed differ). "
                    "Use another output folder, or --overwrite."
                )  # fmt: skip
            training.restore(files.read_tensors(path / "state.safetensors"), about["step"])
            training.bad = about["bad"]
            self._write_journal(about["journal"])
            return float(about["seconds"])
        return 0.0

    def _lines(self, before: int) -> list[dict[str, float]]:
        """This stage's journal up to a step."""
        path = self.folder / "journal.jsonl"
        if not path.exists():
            return []
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if row["stage"] == self.index and row["step"] < before]

    def _write_journal(self, rows: Sequence[dict[str, float]]) -> None:
        path = self.folder / "journal.jsonl"
        earlier = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        kept = [row for row in earlier if row["stage"] < self.index]
        files.write_text(path, "".join(json.dumps(row) + "\n" for row in [*kept, *rows]))


Found = Iterator[tuple[int, dict[str, float], float]]
"""How many solutions there will be, what this one is, its objective; the head holds it."""


@torch.no_grad()
def _path(train_ND: Tensor, labels_N: Tensor, head: HeadModule, fit: Lbfgs) -> Found:
    assert isinstance(head, LinearHead)
    assert head.bias is not None
    start = LinearHead(head.weight, head.bias)
    for solution in lbfgs_path(train_ND, labels_N, start, fit):
        head.weight.copy_(solution.weight_CD)
        head.bias.copy_(solution.bias_C)
        yield len(fit.path), {"c": solution.c}, solution.objective


def _epochs(train_ND: Tensor, labels_N: Tensor, head: HeadModule, fit: Any) -> Found:
    assert isinstance(fit, Majorize)
    assert isinstance(head, LpPlusHead)
    for epoch, loss in enumerate(steps(head, train_ND, labels_N, fit.epochs), 1):
        if epoch % LOOK == 0 or epoch == fit.epochs:
            yield math.ceil(fit.epochs / LOOK), {"epoch": float(epoch)}, loss
