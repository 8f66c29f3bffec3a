"""A finished run folder as values. Only files are read: no model, no dataset, nothing is computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from likewise import files
from likewise.errors import DataError, near
from likewise.metrics import Estimate, standard_error

ID, MEAN, SELECT = "id", "ood-mean", "select"
"""Names with a meaning in `results.json`: in distribution, the mean over OOD domains, the split that chooses."""

COLUMNS = ("path", "row", "label", "split", "role", "domain")
"""What the report reads of the split manifest."""

NOWHERE = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Method:
    """One rung of the ladder. `alpha` is where on its path it was taken; None without a path."""

    name: str
    title: str
    paper: str
    trained: int
    seconds: float
    kind: str
    alphas: tuple[float, ...]
    refused: str | None
    alpha: float | None


@dataclass(frozen=True)
class Predictions:
    """Answers on one domain: logits N x C, class ids N, and row numbers N in that split of the manifest."""

    logits: np.ndarray
    labels: np.ndarray
    index: np.ndarray


@dataclass(frozen=True)
class Run:
    """Everything a report says, from one folder. `domains` are the reported ones, in distribution first."""

    folder: Path
    config: Mapping[str, Any]
    config_text: str
    command: str
    environment: Mapping[str, Any]
    audit: Mapping[str, Any]
    access: Sequence[Mapping[str, Any]]
    advice: Sequence[str]
    names: Sequence[str]
    folders: Sequence[str]
    manifest: Mapping[str, Sequence[Any]]
    scores: Mapping[tuple[str, float | None, str, str], Estimate]
    methods: Mapping[str, Method]
    domains: Sequence[str]
    ways: Mapping[str, Mapping[str, Any]]
    """How domains are measured and changed, of those where it is not plain (`Dataset.ways`)."""
    chosen: str
    alpha: float | None
    why: str
    baseline: str
    seconds: float

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def ood(self) -> list[str]:
        return [domain for domain in self.domains if domain != ID]

    @property
    def changed(self) -> set[str]:
        """Domains that are corruptions, all of the same pictures."""
        return {domain for domain, way in self.ways.items() if way.get("change")}

    @property
    def base(self) -> str:
        """The baseline as a word in a sentence."""
        known = self.methods.get(self.baseline)
        return known.title if known and self.baseline != "zero-shot" else self.baseline

    def score(self, method: str, alpha: float | None, domain: str, metric: str = "accuracy") -> Estimate:
        """A number of `results.json`; `domain` may be "select" or "ood-mean". NaN where there is none."""
        found = self.scores.get((method, _step(alpha), domain, metric))
        if found is None and alpha == 0 and method != self.baseline:
            found = self.scores.get((self.baseline, None, domain, metric))  # every path starts at the anchor
        return found or NOWHERE

    def final(self, method: str, domain: str, metric: str = "accuracy") -> Estimate:
        """The same, at the alpha chosen for that method."""
        return self.score(method, self.methods[method].alpha, domain, metric) if method in self.methods else NOWHERE

    def predictions(self, method: str, domain: str) -> Predictions | None:
        """Stored at the alpha chosen for that method; None when the run kept none."""
        path = self.folder / "methods" / method / "predictions" / f"{domain}.safetensors"
        if not path.exists():
            return None
        tensors = {name: tensor.numpy() for name, tensor in files.read_tensors(path).items()}
        try:
            found = Predictions(tensors["logits_NC"], tensors["labels_N"], tensors["index_N"])
        except KeyError as error:
            raise DataError("F02", f"{path} holds no tensor {error}. Remove it, or run the method again.") from None
        n = found.logits.shape[1]
        if self.names and n != len(self.names):
            message = (
                f"{self.folder}/data/classes.json lists {len(self.names)} classes, but {path.relative_to(self.folder)}"
            )
            raise DataError("R05", f"{message} answers with {n}: the folder mixes two runs. Run again into a new one.")
        return found if len(found.labels) else None

    def journal(self, method: str) -> list[Mapping[str, Any]]:
        """Lines of the training journal, without a last line that was cut off."""
        path = self.folder / "methods" / method / "journal.jsonl"
        lines = []
        for text in path.read_text().splitlines() if path.exists() else ():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return [line for line in lines if isinstance(line, dict) and isinstance(line.get("loss"), int | float)]


def read_run(folder: Path) -> Run:
    """The run in `folder`. Raises `DataError` naming what is missing and what to do about it."""
    results = _results(folder)
    scores: dict[tuple[str, float | None, str, str], Estimate] = {}
    domains: list[str] = []
    try:
        for row in results["rows"]:
            domain = SELECT if row["split"] == SELECT else str(row["domain"])
            value, low, high = (math.nan if row.get(k) is None else float(row[k]) for k in ("value", "low", "high"))
            estimate = Estimate(value, low, high, int(row.get("n") or 0))
            scores[row["method"], _step(row["alpha"]), domain, row["metric"]] = estimate
            if domain not in (SELECT, MEAN, *domains):
                domains.append(domain)
        domains.sort(key=lambda domain: domain != ID)
        chosen, alpha = str(results["chosen"]["method"]), results["chosen"]["alpha"]
        methods = {name: _method(name, entry, scores) for name, entry in results["methods"].items()}
        baseline = str(results.get("baseline", "zero-shot"))
        if chosen not in methods:
            raise DataError("R04", f"{folder}/results.json chose «{chosen}», which is not among its methods.")
    except (KeyError, TypeError, ValueError) as error:
        message = f"{folder}/results.json lacks or garbles {error}: it was written by another version of likewise,"
        raise DataError("R04", f"{message} or edited. Run the experiment again into a new folder.") from None
    methods[chosen] = Method(**{**methods[chosen].__dict__, "alpha": alpha})
    classes = _optional(folder / "data" / "classes.json", {})
    text = _text(folder / "config.yaml")
    return Run(
        folder=folder,
        config=_yaml(text),
        config_text=text,
        command=_text(folder / "command.txt").strip(),
        environment=_optional(folder / "environment.json", {}),
        audit=_optional(folder / "data" / "audit.json", {}),
        access=_optional(folder / "data" / "access.json", []),
        advice=_optional(folder / "recommendation.json", {}).get("reasons", []),
        names=classes.get("names", []),
        folders=classes.get("folders", classes.get("names", [])),
        manifest=_manifest(folder / "data" / "split.parquet"),
        scores=scores,
        methods=methods,
        domains=domains,
        ways=_optional(folder / "data" / "ways.json", {}),
        chosen=chosen,
        alpha=alpha,
        why=str(results["chosen"].get("why") or ""),
        baseline=baseline,
        seconds=float(results.get("seconds") or math.nan),
    )


def _results(folder: Path) -> Any:
    if not folder.is_dir():
        around = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise DataError("R03", f"There is no run folder {folder}.{near(folder.name, around)}")
    if not (folder / "results.json").exists():
        hint = "the run has not finished: run its command again with --resume"
        if not (folder / "config.yaml").exists():
            hint = "it is not a run folder: pass the one that `likewise adapt` wrote (it holds config.yaml)"
        raise DataError("R03", f"{folder} holds no results.json, so there is nothing to report; {hint}.")
    return files.read_json(folder / "results.json")


def _method(name: str, entry: Mapping[str, Any], scores: Mapping[Any, Estimate]) -> Method:
    alphas = tuple(sorted(float(a) for a in entry.get("alphas") or () if a is not None))
    return Method(
        name=name,
        title=str(entry.get("title") or name),
        paper=str(entry.get("paper") or ""),
        trained=int(entry.get("trained") or 0),
        seconds=float(entry["seconds"]) if entry.get("seconds") is not None else math.nan,
        kind=str(entry.get("kind") or ""),
        alphas=alphas,
        refused=entry.get("refused_path") or None,
        alpha=entry["alpha"] if "alpha" in entry else _one_error(name, alphas, scores),
    )


def _one_error(name: str, alphas: Sequence[float], scores: Mapping[Any, Estimate]) -> float | None:
    """The smallest alpha within one standard error of the best on select; the end of the path when that is unknown."""
    known = {
        a: scores[name, _step(a), SELECT, "accuracy"] for a in alphas if (name, _step(a), SELECT, "accuracy") in scores
    }
    if not known:
        return alphas[-1] if alphas else None
    best = max(known.values(), key=lambda estimate: estimate.value)
    bar = best.value - standard_error(best.value, best.n) if best.n else best.value
    return min(a for a, estimate in known.items() if estimate.value >= bar)


def _step(alpha: float | None) -> float | None:
    """Alphas are compared after rounding: 0.1 + 0.2 and 0.3 are one place on the path."""
    return None if alpha is None else round(float(alpha), 6)


def _optional(path: Path, default: Any) -> Any:
    return files.read_json(path) if path.exists() else default


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _yaml(text: str) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}  # the text is still shown as it stands
    return tree if isinstance(tree, dict) else {}


def _manifest(path: Path) -> Mapping[str, Sequence[Any]]:
    if not path.exists():
        return {}
    try:
        columns: dict[str, Sequence[Any]] = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise DataError("F02", f"{path} is not a readable parquet file ({error}).") from None
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        raise DataError("F02", f"{path} lacks the columns {', '.join(lacking)}; it was written by something else.")
    return columns
