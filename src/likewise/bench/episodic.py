"""Episodes of new classes, asked of what a cell trained: rows like those of its results, in a file beside them."""

# D feature width, N pictures of the new classes.

from __future__ import annotations

from collections import Counter
from pathlib import Path

from likewise import files
from likewise.data.prompts import fill
from likewise.data.records import ClassTable, Dataset, Split
from likewise.encoder import Encoder
from likewise.episodes import episodes
from likewise.errors import DataError, some
from likewise.predict import features, placed
from likewise.recipe import Experiment, Machine
from likewise.run.again import dataset_of
from likewise.run.method import fit_method
from likewise.run.results import read_report, row
from likewise.run.stage import Job
from likewise.run.tuned import points
from likewise.run.watch import Stop, Watch
from likewise.suites import Cell, Episodes

EPISODES = "episodes.json"


def answered(cell: Cell, folder: Path) -> bool:
    """Whether the episodes that a cell asks for are in its folder; where it asks for none, they are."""
    if cell.episodes is None:
        return True
    found = folder / EPISODES
    return found.exists() and bool(files.read_json(found)["asked"] == cell.episodes.tree())


def check(asked: Episodes, novel: Dataset, trained: ClassTable) -> Dataset:
    """`novel` as it is. Raises `DataError` D18 where no such episodes can be drawn, or its classes are not new."""
    splits = novel.tree()["splits"]
    counts = Counter[str]()
    for name in {*splits} & {"train", "select", "id"}:
        counts.update(splits[name]["classes"])
    needed = max(asked.shots) + asked.queries
    if len(held := +counts) < asked.ways:
        raise DataError(
            "D18", f"episodes of {asked.ways} classes are asked of {asked.of}, which has {len(held)}. Ask fewer `ways`."
        )  # fmt: skip
    if short := [f"«{folder}» has {n}" for folder, n in held.items() if n < needed]:
        raise DataError(
            "D18", f"an episode takes {needed} pictures of a class (shots and queries), and of {asked.of} "
            f"{some(short, 3)}. Ask fewer `queries` or `shots`."
        )  # fmt: skip
    if known := sorted({*held} & {*trained.folders}):
        raise DataError(
            "D18", f"episodes are of new classes, and {asked.of} has {some(known, 3)}, which are trained on. Keep them "
            "out of one of the two."
        )  # fmt: skip
    return novel


def _whole(novel: Dataset, folder: Path, why: str) -> Split:
    """All pictures of the new classes but those of shifts: nothing of them is trained or chosen on."""
    report = read_report(folder, novel, why)
    parts = [novel.train, novel.select, *([report["id"]] if "id" in report else [])]
    return Split("novel", "report", tuple(record for part in parts for record in part.records))


def answer(cell: Cell, folder: Path, encoder: Encoder, novel: Dataset, machine: Machine, watch: Watch) -> None:
    """Write the rows of a cell whose run is done, at every point of its method's path. Raises `Interrupted`.

    Features are those in the space that both towers share, of the evaluation view. Episodes depend on the cell's seed,
    the new data's name and the shots alone: every method answers the same ones.
    """
    asked, name = cell.episodes, cell.method.called
    assert asked is not None
    experiment, data = Experiment.read(folder / "config.yaml"), dataset_of(folder)
    alphas = files.read_json(folder / "results.json")["methods"][name]["alphas"]
    why = f"episodes of new classes, after {name} was trained"
    rows = []
    with Stop() as stop:
        prompts = fill(data.templates, data.classes.names)
        job = Job(encoder, data, prompts, experiment.seed, machine, watch, stop)
        path = points(fit_method(name, experiment.recipes[name], job, folder / "methods" / name), job, alphas)
        split = _whole(novel, folder, why)
        for alpha, candidate in path.items():
            with placed(encoder, candidate):
                x_ND = features(encoder, split, **job.reading)
            for shots in asked.shots:
                found = episodes(
                    x_ND, split.labels_N, shots=shots, key=(cell.seed, asked.of, shots), ways=asked.ways,
                    queries=asked.queries, count=asked.count,
                )  # fmt: skip
                rows.append(row(name, alpha, "report", asked.of, asked.called(shots), found))
    files.write_json(folder / EPISODES, {"rows": rows, "asked": asked.tree(), "digest": novel.digest})
