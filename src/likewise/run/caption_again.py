"""Going back to a finished caption run: its tower on other labelled data, its methods at other alphas."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likewise import files
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.encoders.pair import Pair
from likewise.errors import ConfigError
from likewise.recipe import Captioning, Machine
from likewise.run.adapt import Run
from likewise.run.again import described, walked
from likewise.run.device import on
from likewise.run.held import read_held, recall
from likewise.run.results import ood_mean, read_report
from likewise.run.stage import Job
from likewise.run.tower import load_tower
from likewise.run.tuned import standing, stored
from likewise.run.vision import Judge
from likewise.run.watch import Stop, Watch


def judge(path: Path, data: Dataset, machine: Machine, watch: Watch) -> list[dict[str, Any]]:
    """Every metric of a run's tuned tower on other labelled data, whose training pictures vote. Writes nothing."""
    encoder, chosen = on(load_tower(path), machine), Run.load(path).results["chosen"]
    with Stop() as stop:
        job = _job(encoder, data, machine, watch, stop)
        return Judge(data.name, data, first=True).rows(
            job, chosen["method"], chosen["alpha"], data.read_report("likewise eval"), "report"
        )


def interpolate(
    path: Path, alphas: Sequence[float], machine: Machine, watch: Watch, methods: Sequence[str] = ()
) -> dict[str, Any]:
    """Every metric of the methods with a path at these alphas, on the judges' select and, logged, report splits.

    Retrieval too, where the run holds pairs back. Of `methods`, where some are named, `caption-` left out or not.
    Writes `interpolation.json`; chooses nothing. Raises `ConfigError` M02 where an encoder is not the run's.
    """
    began = time.monotonic()
    results = Run.load(path).results
    experiment = Captioning.read(path / "config.yaml")
    walking = walked(path, experiment.recipes, [_called(name, experiment) for name in methods])
    held = read_held(path / "data")
    encoder = on(_encoder(path, experiment, reads=len(held.split) > 0), machine)
    rows: list[dict[str, Any]] = []
    data = [described(path / "data" / judge, judge) for judge in results["judges"]]
    judges = [Judge(d.name, d, first=i == 0) for i, d in enumerate(data)]
    report = {j.name: read_report(path, j.data, "likewise interpolate, after the choice") for j in judges}
    with Stop() as stop:
        for method in walking:
            tuned = stored(path / "methods" / method, encoder)
            for alpha in alphas:
                with standing(tuned, encoder, alpha, seed=experiment.seed):
                    for j in judges:
                        job = _job(encoder, j.data, machine, watch, stop)
                        rows += j.rows(job, method, alpha, {"select": j.data.select}, "select")
                        rows += j.rows(job, method, alpha, report[j.name], "report")
                    rows += recall(job, held, method, alpha)
    rows += ood_mean(rows, report[judges[0].name])
    found = {"rows": rows, "alphas": list(alphas), "seconds": time.monotonic() - began}
    files.write_json(path / "interpolation.json", found)
    return found


def _called(method: str, experiment: Captioning) -> str:
    """The run's own name of a method, which may be given without `caption-`, as to `likewise caption`."""
    whole = f"caption-{method}"
    return whole if method not in experiment.recipes and whole in experiment.recipes else method


def _encoder(path: Path, experiment: Captioning, reads: bool) -> Encoder:
    """The run's encoder as it was pretrained, with the text tower that stood beside it where texts are to be read."""
    parts = {"encoder": (experiment.encoder, experiment.encoder_digest)}
    if experiment.text and reads:
        parts["text"] = (experiment.text, experiment.digests["text"])
    found = {}
    for part, (name, digest) in parts.items():
        found[part] = load(name)
        if (now := found[part].spec.digest) != digest:
            raise ConfigError(f"{name} is not the {part} that {path} was made with ({now}, then {digest}).", "M02")
    return Pair(found["encoder"], found["text"]) if "text" in found else found["encoder"]


def _job(encoder: Encoder, data: Dataset, machine: Machine, watch: Watch, stop: Stop) -> Job:
    return Job(encoder, data, [], 0, machine, watch, stop)
