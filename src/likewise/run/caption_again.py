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
from likewise.errors import ConfigError
from likewise.recipe import Captioning, Machine
from likewise.run.adapt import Run
from likewise.run.again import described, walked
from likewise.run.device import on
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

    Writes `interpolation.json`; chooses nothing. Raises `ConfigError` M02 where the encoder is not the run's.
    """
    began = time.monotonic()
    results = Run.load(path).results
    experiment = Captioning.read(path / "config.yaml")
    encoder = load(experiment.encoder)
    if encoder.spec.digest != experiment.encoder_digest:
        raise ConfigError(f"{experiment.encoder} is not the encoder that {path} was made with "
                          f"({encoder.spec.digest}, then {experiment.encoder_digest}).", "M02")  # fmt: skip
    on(encoder, machine)
    rows: list[dict[str, Any]] = []
    data = [described(path / "data" / judge, judge) for judge in results["judges"]]
    judges = [Judge(d.name, d, first=i == 0) for i, d in enumerate(data)]
    report = {j.name: read_report(path, j.data, "likewise interpolate, after the choice") for j in judges}
    with Stop() as stop:
        for method in walked(path, experiment.recipes, methods):
            tuned = stored(path / "methods" / method, encoder)
            for alpha in alphas:
                with standing(tuned, encoder, alpha, seed=experiment.seed):
                    for j in judges:
                        job = _job(encoder, j.data, machine, watch, stop)
                        rows += j.rows(job, method, alpha, {"select": j.data.select}, "select")
                        rows += j.rows(job, method, alpha, report[j.name], "report")
    rows += ood_mean([r for r in rows if ":" not in r["domain"]])
    found = {"rows": rows, "alphas": list(alphas), "seconds": time.monotonic() - began}
    files.write_json(path / "interpolation.json", found)
    return found


def _job(encoder: Encoder, data: Dataset, machine: Machine, watch: Watch, stop: Stop) -> Job:
    return Job(encoder, data, [], 0, machine, watch, stop)
