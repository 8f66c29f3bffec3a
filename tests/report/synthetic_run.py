"""A made-up but plausible run folder: what `likewise adapt` leaves behind, without a model behind it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from PIL import Image, ImageDraw

from likewise.metrics import accuracy, ece, macro_recall, mean_of, standard_error

OOD = ("solid", "colour", "pixel", "hand-drawn", "emoji", "engraved")
PATH = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# name: title, paper, trained, seconds, kind, signal in distribution, share of it that survives a shift
METHODS: dict[str, tuple[str, str, int, float, str, float, float]] = {
    "zero-shot": ("Zero-shot", "Radford et al. 2021", 0, 1.2, "zero-shot", 2.6, 0.86),
    "knn": ("kNN", "Cover and Hart 1967", 0, 2.1, "feature", 2.9, 0.72),
    "linear": ("Linear probe", "Radford et al. 2021", 23_040, 9.4, "feature", 3.3, 0.70),
    "ln": ("LayerNorm", "Kim et al. 2022", 9_216, 61.0, "tuned", 3.3, 0.84),
    "lp-ft": ("LP-FT", "Kumar et al. 2022", 4_412_032, 143.0, "tuned", 3.7, 0.70),
    "flyp": ("FLYP", "Goyal et al. 2023", 4_388_993, 171.0, "tuned", 3.7, 0.80),
}
HARDNESS = dict(zip(("id", "select", *OOD), (1, 1, 1.0, 0.93, 0.8, 0.9, 0.74, 0.62), strict=True))
SIZES = dict(zip(("id", "select", *OOD), (351, 327, 410, 282, 338, 226, 418, 157), strict=True))
WORDS: tuple[str, ...] = (
    "airplane",
    "anchor",
    "apple",
    "bag",
    "ball",
    "battery",
    "bell",
    "bicycle",
    "book",
    "bottle",
    "bug",
)
WORDS += ("bulb", "bus", "cake", "camera", "car", "cat", "chair")


@dataclass
class Answers:
    """Zero-shot and tuned logits of one split; a path is their mixture."""

    labels: np.ndarray
    ends: dict[str, np.ndarray]

    def at(self, method: str, alpha: float | None) -> np.ndarray:
        end_NC, start_NC = self.ends[method], self.ends["zero-shot"]
        mixed = end_NC if alpha is None else (1 - alpha) * start_NC + alpha * end_NC
        return mixed.astype(np.float32)


def make_run(
    folder: Path,
    *,
    ood: Sequence[str] = OOD,
    methods: Sequence[str] = tuple(METHODS),
    classes: int = 90,
    size: float = 1.0,
    samples: list[dict[str, Any]] | None = None,
) -> Path:
    """Write a run folder. `samples` are rows of the split manifest; without them tiny pictures are drawn."""
    folder.mkdir(parents=True)
    names = [WORDS[i] if i < len(WORDS) else f"thing {i:02d}" for i in range(classes)]
    if samples is None:
        samples = _draw(folder, names, {d: max(12, round(SIZES[d] * size)) for d in ("id", "select", *ood)})
    else:
        names = sorted({str(s["label"]) for s in samples})
    folders = (
        sorted({str(s["label"]) for s in samples}) if len(names) != classes else [n.replace(" ", "_") for n in names]
    )
    answers = {d: _answer(samples, d, folders, methods) for d in ("select", "id", *ood)}
    rows, chosen = _score(answers, methods, ood)
    tree = {"encoder": "icon-clip", "data": "photos", "effort": "standard", "seed": 0, "methods": list(methods)}
    best = max(
        chosen, key=lambda m: next(r["value"] for r in _select(rows) if (r["method"], r["alpha"]) == (m, chosen[m]))
    )
    about = {}
    for name in methods:
        title, paper, trained, seconds, kind, _, _ = METHODS[name]
        refused = "it answers with neighbours, not with weights." if name == "knn" else None
        walks = [] if kind == "zero-shot" or refused else list(PATH)
        entry = {"title": title, "paper": paper, "trained": trained, "seconds": seconds, "kind": kind}
        about[name] = {**entry, "alphas": walks, "refused_path": refused}
    why = f"{METHODS[best][0]} has the best select accuracy; its alpha is the smallest within one standard error."
    results = {
        "rows": rows,
        "chosen": {"method": best, "alpha": chosen[best], "why": why},
        "methods": about,
        "baseline": "zero-shot",
        "seconds": 402.5,
    }
    _write(folder / "results.json", results)
    (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in tree.items()))
    (folder / "command.txt").write_text("likewise adapt photos/ --ood emoji=photos_emoji/ --out runs/photos-01\n")
    _write(folder / "environment.json", {"python": "3.11.7", "torch": "2.9.0", "threads": 2, "platform": "Linux"})
    _write(folder / "data" / "classes.json", {"names": names, "folders": folders})
    _write(folder / "data" / "audit.json", _audit(samples))
    reading = [{"when": "2025-03-04T10:20:30+00:00", "why": "report, after the choice", "splits": ["id", *ood]}]
    _write(folder / "data" / "access.json", reading)
    pq.write_table(pa.Table.from_pylist(samples), folder / "data" / "split.parquet")
    for name in methods:
        _keep(folder / "methods" / name, answers, name, chosen.get(name))
    return folder


def _answer(samples: list[dict[str, Any]], domain: str, folders: list[str], methods: Sequence[str]) -> Answers:
    labels_N = np.array([folders.index(s["label"]) for s in samples if s["split"] == domain])
    rng = np.random.default_rng(sum(map(ord, domain)))
    n, c = len(labels_N), len(folders)
    like_CC = np.random.default_rng(5).normal(0, 0.55, (c, c))  # some classes look alike, whoever answers
    shared_NC = rng.normal(0, 0.6, (n, c)) + like_CC[labels_N]
    trouble_N = rng.gamma(4, 0.25, n)
    ends = {}
    for name in methods:
        signal, kept = METHODS[name][5:]
        strength = signal * (1 if domain in ("id", "select") else kept * HARDNESS[domain])
        own_NC = np.random.default_rng(sum(map(ord, domain + name))).normal(0, 0.8, (n, c))
        own_NC += shared_NC
        own_NC[np.arange(n), labels_N] += strength * trouble_N
        ends[name] = own_NC * (2.0 if METHODS[name][4] == "tuned" else 1.7)
    return Answers(labels_N, ends)


def _score(
    answers: dict[str, Answers], methods: Sequence[str], ood: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    rows: list[dict[str, Any]] = []
    chosen: dict[str, float | None] = {}
    for name in methods:
        steps: Sequence[float | None] = (None,) if name in ("zero-shot", "knn") else PATH
        for alpha in steps:
            for metric, measure in (("accuracy", accuracy), ("ece", ece), ("macro_recall", macro_recall)):
                options = {"draws": 5} if metric == "ece" else {}
                parts = []
                for domain, answer in answers.items():
                    e = measure(answer.at(name, alpha), answer.labels, **options)  # type: ignore[operator]
                    split = "select" if domain == "select" else "report"
                    where = "id" if domain == "select" else domain
                    rows.append(_row(name, alpha, split, where, metric, e))
                    parts += [e] if domain in ood else []
                if parts:
                    rows.append(_row(name, alpha, "report", "ood-mean", metric, mean_of(parts)))
        on_select = {r["alpha"]: r for r in _select(rows) if r["method"] == name}
        top = max(on_select.values(), key=lambda r: r["value"])
        bar = top["value"] - standard_error(top["value"], top["n"])
        chosen[name] = min((a for a, r in on_select.items() if r["value"] >= bar), key=lambda a: a or 0)
    return rows, chosen


def _row(name: str, alpha: float | None, split: str, domain: str, metric: str, e: Any) -> dict[str, Any]:
    place = {"method": name, "alpha": alpha, "split": split, "domain": domain, "metric": metric}
    return {**place, "value": e.value, "low": e.low, "high": e.high, "n": e.n}


def _select(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in rows if r["split"] == "select" and r["metric"] == "accuracy"]


def _keep(folder: Path, answers: dict[str, Answers], name: str, alpha: float | None) -> None:
    (folder / "predictions").mkdir(parents=True)
    for domain, answer in answers.items():
        order = np.random.default_rng(len(name)).permutation(len(answer.labels))  # rows need not be in manifest order
        tensors = {
            "logits_NC": np.ascontiguousarray(answer.at(name, alpha)[order]),
            "labels_N": answer.labels[order].astype(np.int64),
            "index_N": order.astype(np.int64),
        }
        safetensors.numpy.save_file(tensors, folder / "predictions" / f"{domain}.safetensors")
    if METHODS[name][4] == "tuned":
        rng, lines = np.random.default_rng(7), []
        for stage, top, n in [("probe", 4.2, 60), ("tune", 1.9, 240)] if name == "lp-ft" else [("tune", 3.9, 300)]:
            for step in range(n):
                loss = 0.35 + top * np.exp(-3.5 * step / n) + rng.normal(0, 0.12)
                lines.append({"stage": stage, "step": step, "loss": float(loss), "rate": 1e-4, "norm": 1.0})
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _audit(samples: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for s in samples:
        by_class = counts.setdefault(s["split"], {})
        by_class[s["label"]] = by_class.get(s["label"], 0) + 1
    warning = {"code": "D10", "message": "3 images appear twice in train/; one copy of each is kept."}
    notice = {"code": "D08", "message": "The rarest class has 2 images to train on."}
    return {"errors": [], "warnings": [warning], "notices": [notice], "counts": counts}


def _draw(folder: Path, names: list[str], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Tiny pictures: one PNG for all to share, and a parquet file with three more."""
    (folder / "data").mkdir()
    shapes = []
    for fill in ("#204070", "#b04020", "#308050"):
        picture = Image.new("RGB", (24, 24), "white")
        ImageDraw.Draw(picture).ellipse((4, 4, 20, 20), fill=fill)
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        shapes.append(buffer.getvalue())
    (folder / "data" / "one.png").write_bytes(shapes[0])
    pq.write_table(pa.table({"image": shapes}), folder / "data" / "images.parquet", row_group_size=2)
    rows = []
    for split, n in {"train": 6 * len(names), **sizes}.items():
        for i in range(n):
            role = split if split in ("train", "select") else "report"
            label = names[(i * 7) % len(names)].replace(" ", "_")
            path, at = ("one.png", -1) if i % 4 == 0 else ("images.parquet", i % 3)
            row = {
                "key": f"{split}-{i}",
                "path": str(folder / "data" / path),
                "row": at,
                "label": label,
                "split": split,
            }
            rows.append({**row, "role": role, "domain": "outline" if split not in OOD else split, "group": ""})
    return rows


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
