"""The caption job: an image tower tuned on pictures with captions, chosen and judged by its features alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from likewise import files
from likewise.data.captions import Pairs
from likewise.data.records import ClassTable, Dataset, Split
from likewise.encoder import Encoder
from likewise.encoders.pair import Pair
from likewise.metrics import standard_error
from likewise.recipe import Captioning, Machine, Recipe
from likewise.run.adapt import Run, Settings
from likewise.run.caption_before import foresee
from likewise.run.choose import Choice, Contender, choose, name_of
from likewise.run.device import on
from likewise.run.folder import CAPTIONS, LOCK, open_folder, status
from likewise.run.held import held_of, recall, write_pairs
from likewise.run.protocol import describe, ending, fit_all, shared_starts
from likewise.run.results import ood_mean, read_report
from likewise.run.stage import Job
from likewise.run.tower import neighbours, save_tower
from likewise.run.tuned import Tuned, standing
from likewise.run.vision import CHOOSES, Judge
from likewise.run.watch import Stop, Watch

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
BASELINE = "pretrained"
Point = tuple[str, float | None]


def caption(
    encoder: Encoder,
    pairs: Pairs,
    recipes: Mapping[str, Recipe],
    judges: Sequence[Dataset],
    out: Path,
    *,
    replayed: Split | None = None,
    how: tuple[Settings, Machine, Watch] | None = None,
) -> Run:
    """Tune on the pairs by every recipe, choose alpha by the first judge's select split, then read its report splits.

    `encoder` has both towers (`encoders.pair.Pair`, or a CLIP). `judges` are labelled data: their training pictures
    vote (kNN) and fit the probe; those unlike the pairs tell what was forgotten. `replayed` are pictures for replay to
    rehearse, the pairs' own where None. Writes the run folder `out`. Raises, before anything is written, what
    `caption_before.foresee` and `device.on` raise, and R01 for a folder that holds something; `Interrupted` (exit 4)
    when a signal asked for an end.
    """
    began = time.monotonic()
    settings, machine, watch = how or (Settings(), Machine(), Watch())
    on(encoder, machine)
    pairs, plans, skipped = foresee(encoder, pairs, recipes, judges, settings.alphas, watch)
    named = {data.name: data for data in judges}
    vision, text = (encoder.vision, encoder.reader.spec) if isinstance(encoder, Pair) else (encoder, None)
    digests = {"pairs": pairs.digest, **{name: data.digest for name, data in named.items()}}
    digests |= {"text": text.digest} if text else {}
    digests |= {"replayed": replayed.digest} if replayed is not None else {}
    experiment = Captioning(
        encoder=vision.spec.name, encoder_digest=vision.spec.digest, text=text.name if text else "", pairs=pairs.name,
        judges=tuple(named), digests=digests, seed=settings.seed, alphas=settings.alphas, recipes=dict(recipes),
    )  # fmt: skip
    with files.lock(out / LOCK):
        open_folder(out, experiment, resume=settings.resume, overwrite=settings.overwrite)
        if settings.resume and status(out) == "done" and (out / "results.json").exists():
            return Run.load(out)
        files.write_text(out / "STATUS", "running\n")
        describe(out, named, settings.command)
        files.write_json(out / "data" / "pairs.json", {**pairs.tree(), "audit": pairs.audit.tree()})
        write_pairs(out / "data", pairs)
        trained = {name: recipe for name, recipe in recipes.items() if name in plans}
        repeated = shared_starts(trained, settings.seed)
        limit = began + settings.time_limit if settings.time_limit else float("inf")
        with Stop() as stop, ending(out):
            job = Job(encoder, _as_dataset(pairs), pairs.captions, settings.seed, machine, watch, stop,
                      limit, repeated, replayed=replayed, kin=pairs.kin)  # fmt: skip
            tuned, late = fit_all(trained, job, out)
            results = _protocol(job, tuned, experiment, list(named.values()), pairs, out)
        results |= {"skipped": skipped | late, "seconds": time.monotonic() - began}
        files.write_json(out / "results.json", results)
        files.write_text(out / "STATUS", "done\n")
    return Run(out, results)


def _as_dataset(pairs: Pairs) -> Dataset:
    """The pairs as training data in which every picture is a class of its own; judges select, so nothing does here."""
    keys = tuple(record.key for record in pairs.split.records)
    return Dataset(pairs.name, ClassTable(names=keys, folders=keys), pairs.split, Split("select", "select", ()), [])


def _protocol(
    job: Job, tuned: Mapping[str, Tuned], experiment: Captioning, data: Sequence[Dataset], pairs: Pairs, out: Path
) -> dict[str, Any]:
    judges = [Judge(d.name, d, first=i == 0) for i, d in enumerate(data)]
    notes = [judge.cut for judge in judges if judge.cut] + _pathless(tuned)
    for said in notes:
        job.watch.say(said)
    rows: list[dict[str, Any]] = []
    points = _points(tuned, experiment.alphas)
    for done, (method, alpha) in enumerate(points, 1):
        with at(tuned, method, alpha, job):
            for judge in judges:
                rows += judge.rows(job, method, alpha, {"select": judge.data.select}, "select")
        job.watch.bar("select", done, len(points), name_of(method, alpha))
    chosen, own = _chosen(rows, tuned)
    files.write_json(out / "choice.json", {**chosen._asdict(), "alphas": own})
    why = f"once, after {name_of(chosen.method, chosen.alpha)} was chosen on the select split"
    report = {judge.name: read_report(out, judge.data, why) for judge in judges}
    for done, (method, alpha) in enumerate(points, 1):
        with at(tuned, method, alpha, job):
            for judge in judges:
                rows += judge.rows(job, method, alpha, report[judge.name], "report")
            if method != BASELINE or not job.encoder.new:  # before training a new projection knows nothing
                rows += recall(job, held_of(pairs), method, alpha)
        job.watch.bar("report", done, len(points), name_of(method, alpha))
    rows += ood_mean(rows, report[judges[0].name])
    examples = report[judges[0].name]["id"]
    shown = chosen if chosen.method != BASELINE else _best(rows, tuned)
    with at(tuned, shown.method, shown.alpha, job):
        after = neighbours(job, judges[0].data.train, examples)
    save_tower(out / "model", job.encoder, chosen, tuned.get(chosen.method))
    before = neighbours(job, judges[0].data.train, examples)
    of = {"method": shown.method, "alpha": shown.alpha}
    files.write_json(out / "neighbours.json", {"before": before, "after": after, "of": of})
    return {
        "rows": rows, "chosen": {**chosen._asdict(), "alphas": own}, "baseline": BASELINE,
        "task": CAPTIONS, "judges": [judge.name for judge in judges], "metric": CHOOSES, "notes": notes,
        "warnings": [finding._asdict() for finding in pairs.audit.warnings],
        "methods": {name: _about(t, experiment, own[name]) for name, t in tuned.items()},
    }  # fmt: skip


def _points(tuned: Mapping[str, Tuned], alphas: Sequence[float]) -> list[Point]:
    """The pretrained encoder, then each method along its path."""
    paths = [(name, a) for name, t in tuned.items() for a in (alphas if t.recipe.merge is not None else (1.0,))]
    return [(BASELINE, None), *paths]


def _pathless(tuned: Mapping[str, Tuned]) -> list[str]:
    """Why a method stands at alpha 1 alone, whatever alphas were asked."""
    return [
        f"{name} stands at alpha 1 alone, where training left it: it has no path to the pretrained encoder"
        f"{f' ({why})' if (why := t.recipe.no_merge) else ''}"
        for name, t in tuned.items()
        if t.recipe.merge is None
    ]


def at(tuned: Mapping[str, Tuned], method: str, alpha: float | None, job: Job) -> AbstractContextManager[None]:
    """Inside, the job's encoder is the method's at alpha; the baseline is the encoder itself."""
    if method == BASELINE:
        return nullcontext()
    return standing(tuned[method], job.encoder, alpha, seed=job.seed)


def _chosen(rows: Sequence[Mapping[str, Any]], tuned: Mapping[str, Tuned]) -> tuple[Choice, dict[str, float | None]]:
    """The choice over all methods, the pretrained encoder among them, and each method's own alpha."""
    contenders = _contenders(rows, tuned)
    own = {name: choose([c for c in contenders if c.method == name]).alpha for name in tuned}
    return choose(contenders, CHOOSES), {BASELINE: None, **own}


def _contenders(rows: Sequence[Mapping[str, Any]], tuned: Mapping[str, Tuned]) -> list[Contender]:
    """What can be chosen, on the select split: alpha 0 of a method is the pretrained encoder, which has its own row."""
    sizes = {name: t.trained for name, t in tuned.items()}
    return [
        Contender(
            r["method"], r["alpha"], sizes.get(r["method"], 0), r["value"], r["n"],
            standard_error(r["value"], r["n"]),
        )
        for r in rows if r["domain"] == "select" and r["metric"] == CHOOSES and r["alpha"] != 0
    ]  # fmt: skip


def _best(rows: Sequence[Mapping[str, Any]], tuned: Mapping[str, Tuned]) -> Choice:
    """The best tuned encoder on the select split; the pretrained one where all methods were left out."""
    found = [c for c in _contenders(rows, tuned) if c.method in tuned]
    return choose(found, CHOOSES) if found else Choice(BASELINE, None, "nothing was tuned")


def _about(tuned: Tuned, experiment: Captioning, alpha: float | None) -> dict[str, Any]:
    recipe = tuned.recipe
    return {
        "title": recipe.title, "paper": recipe.paper, "trained": tuned.trained, "seconds": tuned.seconds,
        "alphas": list(experiment.alphas) if recipe.merge else [], "refused_path": recipe.no_merge or None,
        "notes": tuned.notes, "alpha": alpha,
    }  # fmt: skip
