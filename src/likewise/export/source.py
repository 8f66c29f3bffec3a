"""One method of a finished run at one alpha, opened without the run's pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from likewise import files
from likewise.data.prompts import fill
from likewise.data.records import ClassTable, Dataset, Split
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.errors import ConfigError, DataError, UsageError, near
from likewise.recipe import Experiment, Machine, Recipe
from likewise.run import tuned
from likewise.run.adapt import Run
from likewise.run.kept import refuse_tower
from likewise.run.stage import Job
from likewise.run.watch import Stop, Watch


class Shipped(NamedTuple):
    """What was written: where, of which method and alpha, and how it is loaded."""

    path: Path
    method: str
    alpha: float | None
    load: str
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What else must be said."""
        zero = ("alpha 0 is the pretrained model; alpha 1 would be the tuned one",) if self.alpha == 0 else ()
        return "; ".join((*self.notes, *zero))


@dataclass(frozen=True)
class Source:
    """A method of a run, as training left it."""

    run: Path
    experiment: Experiment
    method: str
    alpha: float | None
    """On the method's path; None for a method without one."""
    classes: ClassTable
    templates: tuple[str, ...]
    about: dict[str, Any]
    """`about.json` of the method's `tuned` folder."""

    @property
    def folder(self) -> Path:
        return self.run / "methods" / self.method / "tuned"

    @property
    def recipe(self) -> Recipe:
        return self.experiment.recipes[self.method]

    def encoder(self) -> Encoder:
        """The run's encoder, loaded anew. Raises M02 where its name no longer stands for the same weights."""
        encoder = load(self.experiment.encoder)
        check_base(encoder, self.about["base"], str(self.run))
        return encoder

    def tuned(self, encoder: Encoder) -> tuple[tuned.Tuned, Job]:
        """What training left, and the job that a point of its path is asked with."""
        job = job_for(encoder, self.classes, self.templates, self.experiment.seed)
        return tuned.read(self.recipe, self.folder, job, self.about["identity"]), job


def open_source(run: Path, method: str | None = None, alpha: float | None = None) -> Source:
    """The method and alpha of a finished run; by default the chosen method, and the alpha chosen for it.

    Raises `UsageError` R01 (no finished run, a method that it left out), C01 (no such method), M01 (a run of captions),
    as `check_alpha` does, `DataError` F02 for a damaged folder.
    """
    results = Run.load(run).results
    refuse_tower(run, results.get("task"), "classifier to export")
    experiment = Experiment.read(run / "config.yaml")
    method = method or str(results["chosen"]["method"])
    if method not in experiment.recipes:
        have = ", ".join(experiment.recipes)
        raise UsageError("C01", f"{run} has no method «{method}».{near(method, experiment.recipes)} It has: {have}.")
    if method not in results["methods"]:
        why = results["skipped"].get(method, "it was not finished")
        raise UsageError("R01", f"{run} has nothing of {method} to export: {why}")
    recipe, chosen = experiment.recipes[method], results["chosen"]["alphas"][method]
    check_alpha(recipe, alpha, method)
    folder = run / "methods" / method / "tuned"
    if not files.whole(folder):
        raise DataError("F02", f"{folder} was cut off or changed after it was written; its manifest does not verify. "
                        f"Train {method} again: likewise adapt ... --overwrite.")  # fmt: skip
    classes = ClassTable.parse({k: v for k, v in files.read_json(run / "data" / "classes.json").items()
                                if k in ClassTable.model_fields}, str(run / "data" / "classes.json"))  # fmt: skip
    templates = tuple(files.read_json(run / "data" / "templates.json"))
    about = files.read_json(folder / "about.json")
    return Source(run, experiment, method, chosen if alpha is None else alpha, classes, templates, about)


def check_alpha(recipe: Recipe, alpha: float | None, what: str) -> None:
    """Raises `ConfigError` for an alpha where there is no path, `UsageError` U01 for one outside 0 to 1."""
    if alpha is not None and recipe.merge is None:
        raise ConfigError(f"{what} has no path, hence no point at alpha {alpha:g}: {recipe.no_merge}. "
                          "Take it as it was trained: leave alpha out.")  # fmt: skip
    if alpha is not None and not 0 <= alpha <= 1:
        raise UsageError("U01", f"alpha {alpha:g} is outside 0 to 1: 0 is the pretrained model, 1 the tuned one.")


def job_for(encoder: Encoder, classes: ClassTable, templates: tuple[str, ...], seed: int) -> Job:
    """A job without pictures: all that a point of a path needs is the encoder, the class prompts and the seed."""
    data = Dataset("export", classes, Split("train", "train", ()), Split("select", "select", ()), (), templates)
    return Job(encoder, data, fill(templates, classes.names), seed, Machine(), Watch(), Stop())


def check_base(encoder: Encoder, base: dict[str, str], where: str) -> None:
    """Raises M02 where the encoder, as it now is, is not the base: by content, whatever it is called."""
    weights = encoder.weights_now()
    if weights != base["weights"]:
        changed = " It was changed after it was loaded; load it anew." if weights != encoder.spec.weights else ""
        raise ConfigError(
            f"{where} stands on {base['name']} (weights sha256 {base['weights'][:12]}...), and the encoder given is "
            f"{encoder.spec.name} ({weights[:12]}...). On other weights its numbers would answer wrongly, not crash."
            f"{changed} Use the base: likewise.load(\"{base['name']}\").", "M02"
        )  # fmt: skip
    if encoder.spec.digest != base["digest"]:
        raise ConfigError(
            f"{where} stands on {base['name']}; {encoder.spec.name} has its weights, but is described differently "
            f"(architecture, activation, or how pictures are read: {encoder.spec.digest}, then {base['digest']}). "
            f"Use the base: likewise.load(\"{base['name']}\").", "M02"
        )  # fmt: skip


def check_free(out: Path) -> None:
    """Raises R01 where something would be lost."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError("R01", f"{out} already holds something. Use -o with a new folder.")
