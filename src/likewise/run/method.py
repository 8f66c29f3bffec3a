"""One method on one data set: its stages trained, resumable, into a folder; or a soup of several such trainings."""

# N training pictures, D feature width.

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from likewise import files
from likewise.adapters import AdapterConfig, add
from likewise.config import fingerprint
from likewise.encoder import Encoder
from likewise.fit import Work
from likewise.heads import Given, HeadConfig, HeadModule, Text
from likewise.losses import Sigmoid
from likewise.metrics import accuracy
from likewise.predict import features
from likewise.recipe import Descent, Recipe, Stage
from likewise.run.planning import left_to
from likewise.run.reading import ask
from likewise.run.soup import greedy, member, stir
from likewise.run.stage import Begun, Job, StageRun, TooSlow
from likewise.run.tuned import Tuned, identity_of, points, read, write


def fit_method(name: str, recipe: Recipe, job: Job, folder: Path) -> Tuned:
    """Train the recipe from the job's encoder, which is left as it was; or read what an earlier call finished.

    Writes `plan.json`, `journal.jsonl`, `checkpoints/` while it trains and `tuned/` in the end. Raises `Interrupted`
    (4) after a checkpoint when a stop was asked for, `TooSlow` at the deadline.
    """
    identity = identity_of(recipe, job)
    if files.whole(folder / "tuned"):
        return read(recipe, folder / "tuned", job, identity)
    if any(stage.fit for stage in recipe.stages) and time.monotonic() > job.deadline:
        raise TooSlow("T01", f"{name} was not begun: the time limit has passed.")
    folder.mkdir(parents=True, exist_ok=True)
    tuned = _soup(name, recipe, job, folder) if recipe.soup else _stages(name, recipe, job, folder, identity)
    write(tuned, folder, job, identity)
    return tuned


def _stages(name: str, recipe: Recipe, job: Job, folder: Path, identity: str) -> Tuned:
    before = job.encoder.state()
    # before anything moves
    frozen = copy.deepcopy(job.encoder) if any(stage.asks_pretrained for stage in recipe.stages) else None
    names: dict[str, int] = {}
    head: HeadModule | None = None
    present: list[AdapterConfig] = []
    notes: dict[str, float] = {}
    seconds = 0.0
    try:
        for index, (stage, settled) in enumerate(zip(recipe.stages, recipe.settled, strict=True)):
            names = left_to(stage, names)
            new = [adapter.for_classes(len(job.prompts)) for adapter in recipe.new_adapters[index]]
            add(job.encoder, new, job.seed)
            present += new
            prompts = job.prompts_of(present)
            if isinstance(stage.head, HeadConfig):
                head = stage.head.build(_given(job, prompts))
            elif isinstance(stage.head, Text):
                head = None
            if stage.fit is not None:
                _begin(job.encoder, settled, names)
                work = Work(settled, job.encoder, head, job.data.train, job.captions_of(stage, present), prompts,
                            job.seed, job.machine.workers, job.train_features, job.text_rows, frozen,
                            job.replayed, job.kin)  # fmt: skip
                runner = StageRun(name, index, work, job, folder, identity)
                names |= dict(zip(runner.plan.trains, runner.plan.counts, strict=True))
                first = beginning(recipe, job.seed) if index == 0 else ""
                if first in job.begun:
                    seconds += _take_up(job.begun[first], work, folder, notes)
                else:
                    last = index + 1 == len(recipe.stages)
                    seconds += runner.train(last) if isinstance(stage.fit, Descent) else runner.solve(notes)
                    if first in job.repeated:
                        job.begun[first] = _begun(runner, folder, seconds, notes)
            if head is not None and head.chooses:
                select_ND = features(job.encoder, job.data.select, head.config.reads, **job.reading)
                notes |= head.choose(select_ND, torch.from_numpy(job.data.select.labels_N))
        mine = [n for n in names if not n.startswith("head.")]
        return Tuned(recipe, job.encoder.state(mine), head, sum(names.values()), seconds, notes)
    finally:
        job.encoder.grafts.remove()
        job.encoder.put(before)
        for parameter in job.encoder.parameters_by_name().values():
            parameter.requires_grad_(False)


def _begin(encoder: Encoder, stage: Stage, trained: Collection[str]) -> None:
    """What neither pretraining nor an earlier stage has seen begins where the stage's loss says."""
    starts = stage.loss.starts if isinstance(stage.loss, Sigmoid) else {}
    fresh = {name: torch.tensor(value) for name, value in starts.items() if name in encoder.new}
    encoder.put({name: value for name, value in fresh.items() if name not in trained})


def beginning(recipe: Recipe, seed: int) -> str:
    """What decides the outcome of a first stage in one job."""
    return fingerprint([recipe.stages[0].tree(), seed])


def _begun(runner: StageRun, folder: Path, seconds: float, notes: dict[str, float]) -> Begun:
    work, trains = runner.work, runner.plan.trains
    head = {} if work.head is None else {n: t.detach().clone() for n, t in work.head.state_dict().items()}
    values = work.encoder.state([name for name in trains if not name.startswith("head.")])
    journal = (folder / "journal.jsonl").read_text()
    return Begun(values, head, seconds, dict(notes), journal)


def _take_up(begun: Begun, work: Work, folder: Path, notes: dict[str, float]) -> float:
    """Put in place what another method's first stage left: the same stage on the same data ends the same."""
    work.encoder.put(begun.values)
    if work.head is not None:
        work.head.load_state_dict(begun.head)
    notes |= begun.notes
    files.write_text(folder / "journal.jsonl", begun.journal)
    return begun.seconds


def _given(job: Job, prompts: Sequence[Sequence[str]]) -> Given:
    return Given(job.encoder, prompts, torch.from_numpy(job.data.train.labels_N), job.train_features, job.seed)


def _soup(name: str, recipe: Recipe, job: Job, folder: Path) -> Tuned:
    """Members in folders of their own, each with a seed and a rate of its own; those that are kept, as one model."""
    assert recipe.soup is not None

    def score(tuned: Tuned) -> float:
        plain = recipe.model_copy(update={"merge": None, "soup": None})
        (said,) = ask(job, {name: points(replace(tuned, recipe=plain), job, [])}, job.data.select).values()
        return accuracy(said.logits_NC, said.labels_N).value

    members = [
        fit_method(
            f"{name} {i + 1}", member(recipe, rate), replace(job, seed=job.seed + i), folder / "members" / str(i)
        )
        for i, rate in enumerate(recipe.soup.rates)
    ]
    kept = greedy(members, score) if recipe.soup.kind == "greedy" else members
    notes = {"members": float(len(members)), "kept": float(len(kept))}
    return replace(stir(kept), recipe=recipe, seconds=sum(m.seconds for m in members), notes=notes)
