"""Going back to a finished run: the same encoder, pictures and tuned methods, for another look."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from likewise import files
from likewise.data.prompts import fill
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.data.sources import SourceOptions, read
from likewise.encoders import load
from likewise.errors import ConfigError, DataError, UsageError, near, some
from likewise.predict import Predictions, features, head_logits
from likewise.recipe import Experiment, Machine, Recipe
from likewise.run.adapt import Run
from likewise.run.artifact import Predictor
from likewise.run.device import on
from likewise.run.method import fit_method
from likewise.run.reading import ask
from likewise.run.results import measure, ood_mean, read_report
from likewise.run.stage import Job
from likewise.run.tuned import points
from likewise.run.watch import Stop, Watch


def dataset_of(path: Path) -> Dataset:
    """The run's dataset, split as it was. Raises `DataError` D06 for pictures that have gone."""
    return described(path / "data", Experiment.read(path / "config.yaml").data)


def described(folder: Path, name: str) -> Dataset:
    """The dataset that `protocol.describe` wrote, split as it was. Raises `DataError` D06 for lost pictures."""
    table = files.read_json(folder / "classes.json")
    classes = ClassTable(names=tuple(table["names"]), folders=tuple(table["folders"]))
    label = {folder: i for i, folder in enumerate(classes.folders)}
    splits: dict[tuple[str, str], list[Record]] = {("train", "train"): [], ("select", "select"): []}
    for row in pq.read_table(folder / "split.parquet").to_pylist():
        called = row["domain"] if row["role"] == "report" else row["role"]
        record = Record(row["key"], label[row["label"]], Path(row["path"]), row["row"], row["group"])
        splits.setdefault((called, row["role"]), []).append(record)
    gone = [str(p) for p in {r.path for rs in splits.values() for r in rs} if not p.exists()]
    if gone:
        raise DataError(
            "D06",
            f"{len(gone)} pictures of {folder.parent} are no longer where they were: {some(sorted(gone), 3)}.",
        )
    ways = files.read_json(folder / "ways.json") if (folder / "ways.json").exists() else {}
    made = {
        called: Split(called, role, tuple(records), **_way(ways.get(called)))  # type: ignore[arg-type]
        for (called, role), records in splits.items()
    }
    report = [split for split in made.values() if split.role == "report"]
    templates = tuple(files.read_json(folder / "templates.json"))
    return Dataset(name, classes, made["train"], made["select"], report, templates)


def _way(said: dict[str, Any] | None) -> dict[str, Any]:
    """How a split is measured and changed, as `Dataset.ways` says it."""
    among = {"among": tuple(tuple(labels) for labels in said["among"])} if said else {}
    return {"metric": said["metric"], **among, "change": said.get("change", "")} if said else {}


def interpolate(
    path: Path, alphas: Sequence[float], machine: Machine, watch: Watch, methods: Sequence[str] = ()
) -> dict[str, Any]:
    """Accuracy of every method with a WiSE path at these alphas, on select and, logged, on the report splits.

    Only of `methods`, where some are named. Writes `interpolation.json`; chooses nothing: what the run chose stays
    chosen. Raises `UsageError` for a method that the run has not, or that has no path.
    """
    Run.load(path)
    began = time.monotonic()
    experiment = Experiment.read(path / "config.yaml")
    recipes = walked(path, experiment.recipes, methods)
    data, encoder = dataset_of(path), load(experiment.encoder)
    if encoder.spec.digest != experiment.encoder_digest:
        raise ConfigError(f"{experiment.encoder} is not the encoder that {path} was made with "
                          f"({encoder.spec.digest}, then {experiment.encoder_digest}).", "M02")  # fmt: skip
    on(encoder, machine)
    rows: list[dict[str, Any]] = []
    with Stop() as stop:
        job = Job(encoder, data, fill(data.templates, data.classes.names), experiment.seed, machine, watch, stop)
        asked = {}
        for name, recipe in recipes.items():
            asked[name] = points(fit_method(name, recipe, job, path / "methods" / name), job, alphas)
        report = read_report(path, data, "likewise interpolate, after the choice")
        for split in (data.select, *report.values()):
            for (name, alpha), said in ask(job, asked, split).items():
                rows += measure(name, alpha, split, said)
    rows += ood_mean(rows, report)
    found = {"rows": rows, "alphas": list(alphas), "seconds": time.monotonic() - began}
    files.write_json(path / "interpolation.json", found)
    return found


def walked(path: Path, recipes: Mapping[str, Recipe], methods: Sequence[str]) -> dict[str, Recipe]:
    """Those of a run's recipes that have a path and were trained, by name; `methods` names some of them.

    Raises `UsageError` for a name that the run has not, and for a method without a path or left out, with the reason.
    """
    with_path = {
        name: recipe
        for name, recipe in recipes.items()
        if recipe.merge is not None and files.whole(path / "methods" / name / "tuned")
    }
    if not with_path:
        raise UsageError(
            "C01", f"no method of {path} has a path to the pretrained model. Its methods: {', '.join(recipes)}."
        )
    there = f"Methods of this run with a path: {', '.join(with_path)}."
    for name in methods:
        if name not in recipes:
            raise UsageError("C01", f"{path} has no method «{name}».{near(name, recipes)} {there}")
        if recipes[name].merge is None:
            raise UsageError("C01", f"{name} has no path to the pretrained model: {recipes[name].no_merge}. {there}")
        if name not in with_path:
            why = files.read_json(path / "results.json")["skipped"].get(name, "it was not trained")
            raise UsageError("C01", f"{name} was left out of {path}: {why} {there}")
    return {name: with_path[name] for name in methods} if methods else with_path


def labelled(path: Path, classes: ClassTable, options: SourceOptions) -> dict[str, Split]:
    """Every picture of a source, by domain, under a given class table. Raises `DataError` D04 for classes it lacks."""
    found = read(path, options).found
    strange = sorted({f.folder for f in found} - set(classes.folders))
    if strange:
        raise DataError("D04", f"{path} has {len(strange)} classes that the model lacks: {some(strange)} -> they can "
                        "never be predicted. Move these images, or adapt a model with them. It knows: "
                        f"{some(classes.folders, 8)}.")  # fmt: skip
    parts = {f.part for f in found}
    kept = [f for f in found if f.part == "report"] if "report" in parts else found
    by_domain: dict[str, list[Record]] = {}
    for f in kept:
        by_domain.setdefault(f.domain or path.stem, []).append(
            Record(f.key, classes.index(f.folder), f.path, f.row, f.group)
        )
    return {name: Split(name, "report", tuple(records)) for name, records in by_domain.items()}


def evaluate(path: Path, splits: dict[str, Split], machine: Machine) -> list[dict[str, Any]]:
    """Accuracy, ECE and macro recall of a run's adapted model on these splits. Writes nothing."""
    predictor = Predictor.load(path)
    on(predictor.encoder, machine)
    predictor.head.to(machine.device)
    rows: list[dict[str, Any]] = []
    for split in splits.values():
        reads = predictor.head.config.reads
        found = features(predictor.encoder, split, reads, batch=machine.eval_batch, workers=machine.workers)
        said: Predictions = head_logits(predictor.head, found, split)
        rows += measure(predictor.card.method, predictor.card.alpha, split, said)
    return rows + ood_mean(rows, splits)
