"""One stage of one method in its folder: solved or trained, with checkpoints and a journal."""

# C classes, L tokens, N training pictures, T templates.

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likewise import files
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import Interrupted, LikewiseError, UsageError
from likewise.fit import Training, Work, lbfgs_path
from likewise.heads import LinearHead
from likewise.predict import features, head_logits
from likewise.recipe import Lbfgs, Machine, Stage
from likewise.run.watch import Stop, Watch


class TooSlow(LikewiseError):
    """A method that would not end within the time limit; it is left out and never scored."""

    exit_code = 1


@dataclass
class Job:
    """What every method of a run shares. `prompts` are the filled templates, per class."""

    encoder: Encoder
    data: Dataset
    prompts: list[list[str]]
    seed: int
    machine: Machine
    watch: Watch
    stop: Stop
    deadline: float = float("inf")
    """On `time.monotonic()`; a stage that would end later is not begun or not finished."""

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

    def tokens_CTL(self) -> Tensor:
        flat = self.encoder.tokenize([text for texts in self.prompts for text in texts])
        return flat.reshape(len(self.prompts), -1, flat.shape[-1])


class StageRun:
    """One stage of one method: its work, checkpoints and journal."""

    def __init__(
        self, name: str, index: int, stage: Stage, head: LinearHead | None, job: Job, folder: Path, identity: str
    ) -> None:
        self.name, self.index, self.job, self.folder, self.identity = name, index, job, folder, identity
        self.head = head
        self.work = Work(
            stage, job.encoder, head, job.data.train, job.tokens_CTL(), job.prompts, job.seed, job.machine.workers
        )
        self.plan = self.work.plan()
        files.write_json(folder / f"plan-{index}.json", self.plan.tree())

    def solve(self, notes: dict[str, float]) -> float:
        """A linear head along its path; the C with the best select accuracy. Returns seconds."""
        began = time.monotonic()
        job, fit = self.job, self.work.stage.fit
        assert isinstance(fit, Lbfgs)
        assert self.head is not None
        train_ND, select_ND = (features(job.encoder, split, **job.reading) for split in job.data.splits())
        best = -1.0
        rows = []
        start = LinearHead(self.head.weight, self.head.bias)
        for number, solution in enumerate(lbfgs_path(train_ND, torch.from_numpy(job.data.train.labels_N), start, fit)):
            head = LinearHead(solution.weight_CD, solution.bias_C)
            said = head_logits(head, select_ND, job.data.select)
            share = float((said.logits_NC.argmax(1) == said.labels_N).mean())
            rows.append(
                {"stage": self.index, "step": number, "loss": solution.objective, "c": solution.c, "select": share}
            )
            if share > best:  # the path goes from strong to weak penalty: of equals the stronger stays
                best, notes["C"] = share, solution.c
                with torch.no_grad():
                    self.head.weight.copy_(head.weight)
                    self.head.bias.copy_(head.bias)
            job.watch.bar(self.name, number + 1, len(fit.path), f"C={solution.c:g}")
            job.heed(f"in {self.name} at C={solution.c:g}")
        self._write_journal(rows)
        return time.monotonic() - began

    def train(self) -> float:
        """AdamW from the newest whole checkpoint, or from the start. Returns seconds, of earlier attempts too."""
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
