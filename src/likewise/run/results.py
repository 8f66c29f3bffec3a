"""The rows that a run reports: every number with its interval and n, read off predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from likewise import files
from likewise.data.records import Dataset, Split
from likewise.metrics import NAMED, Estimate, accuracy, ece, macro_recall, mean_of
from likewise.predict import Predictions

METRICS = {"accuracy": accuracy, "ece": ece, "macro_recall": macro_recall}


def row(method: str, alpha: float | None, split: str, domain: str, metric: str, e: Estimate) -> dict[str, Any]:
    """One number as results.json holds it."""
    return {"method": method, "alpha": alpha, "split": split, "domain": domain, "metric": metric, **e._asdict()}


def measure(method: str, alpha: float | None, split: Split, said: Predictions) -> list[dict[str, Any]]:
    """One row a metric: those of every split, and the split's own."""
    found = {name: f(said.logits_NC, said.labels_N) for name, f in METRICS.items()}
    if split.metric not in found:
        found[split.metric] = own(split, said)
    domain = "id" if split.role == "select" else split.name
    return [row(method, alpha, split.role, domain, name, e) for name, e in found.items()]


def own(split: Split, said: Predictions) -> Estimate:
    """A split's own measure of what was said of it."""
    return NAMED[split.metric](said.logits_NC, said.labels_N, split.groups)


def ood_mean(rows: Iterable[Mapping[str, Any]], report: Mapping[str, Split]) -> list[dict[str, Any]]:
    """For each method and alpha, the unweighted mean of each metric over the out-of-distribution domains of `report`.

    Corruptions are all of the same pictures, which the interval knows.
    """
    groups: dict[tuple[str, float | None, str], dict[str, Estimate]] = {}
    for r in rows:
        if r["split"] == "report" and r["domain"] in report and r["domain"] != "id":
            key = r["method"], r["alpha"], r["metric"]
            groups.setdefault(key, {})[r["domain"]] = Estimate(r["value"], r["low"], r["high"], r["n"])
    return [
        row(m, alpha, "report", "ood-mean", metric, mean_of([*parts.values()], [bool(report[d].change) for d in parts]))
        for (m, alpha, metric), parts in groups.items()
    ]


def read_report(out: Path, data: Dataset, why: str) -> dict[str, Split]:
    """The report splits, after the reading has been written to the run's log: what is read is logged, come what may."""
    path = out / "data" / "access.json"
    splits = data.read_report(why)
    files.write_json(path, [*(files.read_json(path) if path.exists() else []), data.access_log[-1]])
    return splits


def find(rows: Iterable[Mapping[str, Any]], **want: Any) -> Mapping[str, Any] | None:
    """The first row that has these values, or None."""
    return next((r for r in rows if all(r[key] == value for key, value in want.items())), None)
