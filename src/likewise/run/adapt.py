"""The main job: every method under one protocol, a choice on the select split, the report splits read once."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from likewise import files
from likewise.config import Config
from likewise.data.indices import file_of
from likewise.data.prompts import fill
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import UsageError
from likewise.metrics import error_of
from likewise.recipe import Experiment, Machine, Recipe
from likewise.recipes import RECIPES
from likewise.run.artifact import Predictor, save_point
from likewise.run.before import foresee
from likewise.run.choose import Choice, Contender, choose, name_of
from likewise.run.device import on
from likewise.run.folder import LOCK, MEND, open_folder, status, which
from likewise.run.protocol import describe, ending, fit_all, shared_starts
from likewise.run.reading import ask
from likewise.run.results import measure, ood_mean, read_report
from likewise.run.results import own as own_measure
from likewise.run.stage import Job
from likewise.run.tuned import Tuned, point, points
from likewise.run.watch import Stop, Watch

BASELINE = "zero-shot"
ADVICE = "recommendation.json"


@dataclass
class Run:
    """A finished run: `results` as in results.json, `predictor` the adapted model."""

    path: Path
    results: dict[str, Any]
    _predictor: list[Predictor] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Raises `UsageError` for a folder without results."""
        if not (path / "results.json").exists():
            state = status(path) if (path / "STATUS").exists() else "no run at all"
            mend = MEND if state == "failed" else "Finish it with likewise adapt ... --resume."
            what = which(path) or f" {mend}"
            raise UsageError("R01", f"{path} holds no finished run ({state}).{what}")
        return cls(path, files.read_json(path / "results.json"))

    @property
    def predictor(self) -> Predictor:
        if not self._predictor:
            self._predictor.append(Predictor.load(self.path))
        return self._predictor[0]


class Settings(Config):
    """How a run goes on about its question: seed and budget; what to do with what is there already."""

    seed: int = 0
    shots: int = 0
    allow_short: bool = False
    shot_index: str = ""
    """A file with a published choice of these shots, or the folder that has it (`likewise.data.indices`)."""
    alphas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    time_limit: float = 0.0
    """Seconds, 0 for none: methods that would not end in time are left out, and said so."""
    resume: bool = False
    overwrite: bool = False
    command: str = ""
    advice: dict[str, Any] = Field(default_factory=dict)
    """Why these recipes, where that was asked of `likewise.recommend`; kept beside the results."""


def make_experiment(encoder: Encoder, data: Dataset, recipes: Mapping[str, Recipe], **rest: Any) -> Experiment:
    """The question of a run: encoder and data by digest, recipes whole."""
    return Experiment(
        encoder=encoder.spec.name, encoder_digest=encoder.spec.digest, data=data.name, data_digest=data.digest,
        recipes=dict(recipes), **rest,
    )  # fmt: skip


def adapt(
    encoder: Encoder,
    data: Dataset,
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    settings: Settings | None = None,
    machine: Machine | None = None,
    watch: Watch | None = None,
) -> Run:
    """Train every recipe, choose on select, then read the report splits once. Writes the run folder `out`.

    The zero-shot baseline is always among them. Raises, before anything is written, what `before.foresee` raises, and
    R01 for a folder that holds something; `Interrupted` (exit 4) when a signal asked for an end: everything up to then
    is kept and `resume=True` goes on.
    """
    began = time.monotonic()
    settings, machine, watch = settings or Settings(), machine or Machine(), watch or Watch()
    data = copy.copy(data)
    data.audit = copy.deepcopy(data.audit)  # what this run warns of is this run's
    if settings.shots or settings.shot_index:
        data = data.few(settings.shots, settings.seed, settings.allow_short, settings.shot_index)
    on(encoder, machine)
    asked = tuple(recipes)
    recipes = {BASELINE: RECIPES[BASELINE], **recipes}
    foreseen = foresee(encoder, data, recipes, asked)
    experiment = make_experiment(
        encoder, data, recipes, seed=settings.seed, shots=settings.shots, shot_index=_index(settings),
        alphas=settings.alphas,
    )  # fmt: skip
    with files.lock(out / LOCK):
        open_folder(out, experiment, resume=settings.resume, overwrite=settings.overwrite)
        if settings.resume and status(out) == "done" and (out / "results.json").exists():
            return Run.load(out)  # nothing is left to do, and the report splits are not read again
        for finding in foreseen:
            data.audit.warn(finding.code, finding.message)
            watch.say(f"{finding.code} {finding.message}")
        return _adapt(encoder, data, experiment, out, (settings, machine, watch, began))


def _index(settings: Settings) -> str:
    """The digest of the file with the published choice; "" where pictures are drawn by key."""
    if not settings.shot_index:
        return ""
    return files.digest(file_of(Path(settings.shot_index), settings.shots, settings.seed))


def _adapt(
    encoder: Encoder, data: Dataset, experiment: Experiment, out: Path, how: tuple[Settings, Machine, Watch, float]
) -> Run:
    settings, machine, watch, began = how
    files.write_text(out / "STATUS", "running\n")
    prompts = fill(data.templates, data.classes.names)
    describe(out, {"": data}, settings.command)
    if settings.advice:
        files.write_json(out / ADVICE, settings.advice)
    limit = began + settings.time_limit if settings.time_limit else float("inf")
    with Stop() as stop, ending(out):
        repeated = shared_starts(experiment.recipes, settings.seed)
        job = Job(encoder, data, prompts, settings.seed, machine, watch, stop, limit, repeated)
        results = _protocol(job, experiment, out, began)
    return Run(out, results)


def _protocol(job: Job, experiment: Experiment, out: Path, began: float) -> dict[str, Any]:
    tuned, skipped = fit_all(experiment.recipes, job, out)
    asked = {name: points(t, job, t.recipe.grid(experiment.alphas)) for name, t in tuned.items()}
    select = ask(job, asked, job.data.select)
    contenders, rows, metric = [], [], job.data.select.metric
    for (name, alpha), said in select.items():
        found = own_measure(job.data.select, said)
        contenders.append(Contender(name, alpha, tuned[name].kept, found.value, found.n, error_of(found, metric)))
        rows += measure(name, alpha, job.data.select, said)
    fixed = {n: t.recipe.merge.alpha for n, t in tuned.items() if t.recipe.merge and t.recipe.merge.alpha != "select"}
    contenders = [c for c in contenders if c.method not in fixed or c.alpha == fixed[c.method]]
    # alpha 0 of any method is the zero-shot model, which stands here in its own name
    chosen = choose([c for c in contenders if c.alpha != 0], "" if metric == "accuracy" else metric)
    own = {name: choose([c for c in contenders if c.method == name]).alpha for name in tuned}
    own[chosen.method] = chosen.alpha
    files.write_json(out / "choice.json", {**chosen._asdict(), "alphas": own})
    for name, alpha in own.items():
        select[name, alpha].write(out / "methods" / name / "predictions" / "select.safetensors")
    report = read_report(
        out, job.data, f"once, after {name_of(chosen.method, chosen.alpha)} was chosen on the select split"
    )
    for domain, split in report.items():
        for (name, alpha), said in ask(job, asked, split).items():
            rows += measure(name, alpha, split, said)
            if alpha == own[name]:
                said.write(out / "methods" / name / "predictions" / f"{domain}.safetensors")
    rows += ood_mean(rows, report)
    _keep(job, tuned[chosen.method], chosen, out)
    results = {
        "rows": rows, "chosen": {**chosen._asdict(), "alphas": own}, "baseline": BASELINE, "skipped": skipped,
        "methods": {name: {**_about(t, experiment), "alpha": own[name]} for name, t in tuned.items()},
        "seconds": time.monotonic() - began,
        **({"shot_index": experiment.shot_index} if experiment.shot_index else {}),
    }  # fmt: skip
    files.write_json(out / "results.json", results)
    files.write_text(out / "STATUS", "done\n")
    return results


def _about(tuned: Tuned, experiment: Experiment) -> dict[str, Any]:
    recipe = tuned.recipe
    kind = "tuned" if tuned.values else "feature" if tuned.head is not None else "zero-shot"
    return {
        "title": recipe.title, "paper": recipe.paper, "trained": tuned.trained, "seconds": tuned.seconds, "kind": kind,
        "alphas": recipe.grid(experiment.alphas), "refused_path": recipe.no_merge or None,
        "form": recipe.merge.form if recipe.merge else None, "notes": tuned.notes,
    }  # fmt: skip


def _keep(job: Job, tuned: Tuned, chosen: Choice, out: Path) -> None:
    """Write the chosen model: the whole of it, text tower included."""
    about = {"classes": job.data.classes.tree(), "templates": list(job.data.templates), "method": chosen.method,
             "alpha": chosen.alpha}  # fmt: skip
    save_point(out / "model", job.encoder, point(tuned, job, chosen.alpha), about)
