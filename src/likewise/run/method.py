"""One method on one data set: its stages trained, resumable, into a folder; and the points of its WiSE path."""

# C classes, L tokens, T templates.

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from likewise import files
from likewise.config import fingerprint
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import Interrupted, LikewiseError, UsageError
from likewise.fit import Training, Work, lbfgs_path
from likewise.heads import BuiltHead, Keep, Linear, LinearHead, Neighbours, NeighboursHead, Text, text_head
from likewise.merging import lerp
from likewise.predict import Candidate, features, head_logits
from likewise.recipe import AdamW, Lbfgs, Machine, Recipe, Stage
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

    def tokens_CTL(self) -> Tensor:
        flat = self.encoder.tokenize([text for texts in self.prompts for text in texts])
        return flat.reshape(len(self.prompts), -1, flat.shape[-1])


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


def fit_method(name: str, recipe: Recipe, job: Job, folder: Path) -> Tuned:
    """Train the recipe from the job's encoder, which is left as it was; or read what an earlier call finished.

    Writes `plan.json`, `journal.jsonl`, `checkpoints/` while it trains and `tuned/` in the end. Raises `Interrupted`
    (4) after a checkpoint when a stop was asked for, `TooSlow` at the deadline.
    """
    identity = fingerprint([recipe.tree(), job.encoder.spec.digest, job.data.train.digest, job.seed])
    if files.whole(folder / "tuned"):
        return _read(recipe, folder / "tuned", len(job.prompts), identity)
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
                shared_ND = features(job.encoder, job.data.train, batch=job.machine.eval_batch, workers=job.machine.workers)
                labels_N = torch.from_numpy(job.data.train.labels_N)
                built = NeighboursHead(shared_ND, labels_N, len(job.prompts), stage.head)
            if stage.fit is None:
                continue
            runner = _StageRun(name, index, stage, head, job, folder, identity)
            plan = runner.work.plan()
            names |= {n: c for n, c in zip(plan.trains, plan.counts, strict=True)}
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


class _StageRun:
    """One stage of one method: its work, checkpoints and journal."""

    def __init__(self, name: str, index: int, stage: Stage, head: LinearHead | None, job: Job, folder: Path, identity: str) -> None:
        self.name, self.index, self.job, self.folder, self.identity = name, index, job, folder, identity
        self.head = head
        self.work = Work(
            stage, job.encoder, head, job.data.train, job.tokens_CTL(), job.prompts, job.seed, job.machine.workers
        )
        plan = self.work.plan()
        files.write_json(folder / f"plan-{index}.json", plan.tree())
        if isinstance(stage.head, Keep):
            assert head is not None

    def solve(self, notes: dict[str, float]) -> float:
        """A linear head along its path; the C with the best select accuracy. Returns seconds."""
        began = time.monotonic()
        job, fit = self.job, self.work.stage.fit
        assert isinstance(fit, Lbfgs) and self.head is not None
        options = {"batch": job.machine.eval_batch, "workers": job.machine.workers}
        train_ND = features(job.encoder, job.data.train, **options)  # type: ignore[arg-type]
        select_ND = features(job.encoder, job.data.select, **options)  # type: ignore[arg-type]
        best = -1.0
        rows = []
        start = LinearHead(self.head.weight, self.head.bias)
        for number, solution in enumerate(lbfgs_path(train_ND, torch.from_numpy(job.data.train.labels_N), start, fit)):
            head = LinearHead(solution.weight_CD, solution.bias_C)
            said = head_logits(head, select_ND, job.data.select)
            share = float((said.logits_NC.argmax(1) == said.labels_N).mean())
            rows.append({"stage": self.index, "step": number, "loss": solution.objective, "c": solution.c, "select": share})
            if share > best:  # the path goes from strong to weak penalty: of equals the stronger stays
                best, notes["C"] = share, solution.c
                with torch.no_grad():
                    self.head.weight.copy_(head.weight)
                    self.head.bias.copy_(head.bias)
            job.watch.bar(self.name, number + 1, len(fit.path), f"C={solution.c:g}")
        self._journal(rows)
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
                raise TooSlow("T01", f"{self.name} would not end within the time limit (step {training.step} of {training.total}).")
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

    def _journal(self, rows: Sequence[dict[str, float]]) -> None:
        self._write_journal(rows)


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
