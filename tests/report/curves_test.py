"""The report of a sweep says what curves.json says, draws it where it lies, and links to what is there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from report_test import Page, seen

from likewise.errors import DataError, UsageError
from likewise.report import curves, write_report

OOD = ("solid", "pixel")
LEVEL = {"id": 0.8, "solid": 0.6, "pixel": 0.3, "ood-mean": 0.45}
GAIN = {"zero-shot": 0.0, "ln": 0.01, "flyp": 0.02}


def number(method: str, shots: int, domain: str, seeds: Sequence[int], step: int) -> dict[str, Any]:
    """A method gains so much a step; seeds lie one point apart, but for what trains nothing."""
    moves = method != "zero-shot" and len(seeds) > 1
    mean = LEVEL[domain] + GAIN[method] * step * (0.5 if domain == "pixel" else 1)
    values = [mean + 0.01 * (i - (len(seeds) - 1) / 2) * moves for i in range(len(seeds))]
    half = 0.03 if moves else 0.05
    return {
        "method": method, "shots": shots, "domain": domain, "metric": "accuracy", "mean": mean, "low": mean - half,
        "high": mean + half, "n": len(seeds), "interval": "seeds" if moves else "pictures", "seeds": list(seeds),
        "values": values, "alphas": [None if method == "zero-shot" else 0.2 + 0.2 * i for i in range(len(seeds))],
        "pictures": 400,
    }  # fmt: skip


def make_sweep(folder: Path, shots: Sequence[int] = (1, 4, 16, 0), seeds: Sequence[int] = (0, 1, 2)) -> Path:
    """A sweep's folder as the run room leaves it, with a report in the first cell only."""
    domains = ("id", *OOD, "ood-mean")
    cells = [{"shots": k, "seed": s, "folder": f"shots-{k or 'all'}/seed-{s}", "chosen": "flyp", "alpha": 0.4,
              "skipped": {"ln": "it would not end in time"} if (k, s) == (4, 0) else {}, "seconds": 30.0}
             for k in shots for s in seeds]  # fmt: skip
    rows = [number(m, k, d, seeds, i) for m in GAIN for i, k in enumerate(shots) for d in domains]
    sizes = [{"shots": k, "train": {"pictures": 10 * (k or 23), "fewest": k or 9, "most": k or 41},
              "select": {"pictures": 39, "fewest": 3, "most": 4}} for k in shots]  # fmt: skip
    tree = {"rows": rows, "methods": {m: {"title": m.upper(), "paper": ""} for m in GAIN}, "baseline": "zero-shot",
            "domains": list(domains), "shots": list(shots), "seeds": list(seeds), "sizes": sizes, "cells": cells,
            "encoder": "icon-clip", "data": "photos"}  # fmt: skip
    (folder / cells[0]["folder"]).mkdir(parents=True)
    (folder / cells[0]["folder"] / "report.html").write_text("<!doctype html>")
    (folder / cells[0]["folder"] / "command.txt").write_text("likewise adapt photos --shots 1,4 < a & b\n")
    (folder / "sweep.yaml").write_text("shots: []\n")
    (folder / "curves.json").write_text(json.dumps(tree))
    return folder


def written(folder: Path) -> str:
    """The page, well-formed and self-contained: it loads nothing, and links only to reports beside it."""
    text = write_report([folder], folder / "report.html").read_text()
    page = Page(text)
    assert [fault for fault in page.faults if not fault.startswith("loads shots-")] == []
    assert set(page.targets) <= set(page.ids)
    assert max(page.ids.values()) == 1
    assert "<script" not in text
    assert "nan" not in "".join(re.findall(r'(?:points|cx|cy|x|y|x1|y1)="([^"]*)"', text))
    return text


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "curves.json").read_text())["rows"]
    return found


def test_every_number_is_in_the_tables(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep")
    words = seen(written(folder))
    words = words[words.index("The numbers") :]
    markdown = (folder / "report.md").read_text()
    for method in GAIN:
        for domain, title in (("id", "in distribution"), ("ood-mean", "OOD mean"), ("solid", "solid")):
            mine = [r for r in rows(folder) if (r["method"], r["domain"]) == (method, domain)]
            cells = [f"{100 * r['mean']:.1f} {100 * r['low']:.1f}–{100 * r['high']:.1f}" for r in mine]
            tail = " †" if method == "zero-shot" else " α = 0.2–0.6"
            line = f"{method.upper()} {method} " + " ".join(cell + tail for cell in cells)
            at = words.index(f"{title} 1 4 16 all")
            assert line in words[at:].replace("\u202f", " "), (method, domain)
            assert f"| {cells[1].replace(' ', ' (')}" in markdown
    assert "With 3 seeds such an interval is 4.3 standard errors" in seen(written(folder))
    assert "† Every seed gave the same number" in words
    assert "ln was left out of shots-4/seed-0: it would not end in time" in words
    for size in ("1 10 1 39 3 to 4", "16 160 16 39 3 to 4", "all 230 9 to 41 39 3 to 4"):
        assert size in words
    assert "min(K, 4)" in words
    assert "likewise adapt photos --shots 1,4 < a & b" in words


def test_curves_lie_at_the_logarithm_of_shots_and_all_one_doubling_on(tmp_path: Path) -> None:
    text = written(make_sweep(tmp_path / "sweep"))
    drawing = re.search(r"<svg.*?</svg>", text, re.S)
    assert drawing
    svg = drawing[0]
    assert "At all pictures: zero-shot 80.0 %, ln 83.0 %, flyp 86.0 %" in svg
    ticks = {word: float(x) for x, word in re.findall(r'tick middle" x="([\d.]+)"[^>]*>(\w+)<', svg)}
    unit = (ticks["16"] - ticks["1"]) / 4
    assert ticks["4"] == pytest.approx(ticks["1"] + 2 * unit, abs=0.2)
    assert ticks["all"] == pytest.approx(ticks["16"] + unit, abs=0.2)
    # heights against the labelled rules: a straight line through them gives back the percentages
    rules = {float(word): float(y) - 3.6 for y, word in re.findall(r'tick end" x="[\d.]+" y="([\d.]+)">([\d.]+)<', svg)}
    (low, y_low), (high, y_high) = min(rules.items()), max(rules.items())

    def percent(y: float) -> float:
        return low + (y - y_low) / (y_high - y_low) * (high - low)

    colour = "--c:var(--m4)"  # flyp, as in every report
    solid, broken = (re.search(rf'class="{kind}" style="{re.escape(colour)}" points="([^"]+)"', svg)
                     for kind in ("path", "path broken"))  # fmt: skip
    assert solid
    assert broken
    steps = [tuple(map(float, pair.split(","))) for pair in f"{solid[1]} {broken[1].split()[-1]}".split()]
    assert [percent(y) for _, y in steps] == pytest.approx([80, 82, 84, 86], abs=0.1)
    assert [x for x, _ in steps] == pytest.approx([ticks[t] for t in ("1", "4", "16", "all")], abs=0.2)
    band = re.search(rf'class="band" style="{re.escape(colour)}" points="([^"]+)"', svg)
    assert band
    edges = [percent(float(pair.split(",")[1])) for pair in band[1].split()]
    assert edges == pytest.approx([83, 85, 87, 89, 83, 81, 79, 77], abs=0.1)
    assert svg.count('class="band"') == 2  # zero-shot is a level, without a band over seeds
    assert svg.count('class="level"') == 1
    assert 'class="interval' not in svg


def test_panels_are_of_one_height_so_that_slopes_compare(tmp_path: Path) -> None:
    found = curves.windows(curves.read_curves(make_sweep(tmp_path / "sweep")))
    assert list(found) == ["id", "ood-mean", *OOD]
    heights = [high - low for low, high in found.values()]
    assert heights == pytest.approx([heights[0]] * 4)
    for domain, (low, high) in found.items():
        assert 0 <= low < LEVEL[domain] < LEVEL[domain] + 0.03 < high <= 1


def test_links_lead_to_the_reports_that_are_there(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep")
    assert re.findall(r'href="([^#"]+)"', written(folder)) == ["shots-1/seed-0/report.html"]
    away = write_report([folder], tmp_path / "pages" / "a.html")
    (link,) = re.findall(r'href="([^#"]+)"', away.read_text())
    assert (away.parent / link).resolve() == (folder / "shots-1/seed-0/report.html").resolve()
    assert "chose flyp" in seen(away.read_text())


def test_where_seeds_agree_no_band_is_drawn(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep", shots=(1, 2, 4))
    tree = json.loads((folder / "curves.json").read_text())
    row = next(r for r in tree["rows"] if (r["method"], r["shots"], r["domain"]) == ("flyp", 1, "id"))
    assert "reach beyond the drawing" not in seen(written(folder))
    row |= {"interval": "pictures", "values": [0.8] * 3, "high": 1.0}
    (folder / "curves.json").write_text(json.dumps(tree))
    svg = re.search(r"<svg.*?</svg>", text := written(folder), re.S)
    assert svg
    band = re.search(r'class="band" style="--c:var\(--m4\)" points="([^"]+)"', svg[0])
    assert band
    assert len(band[1].split()) == 4  # of shots 2 and 4
    assert svg[0].count('class="interval" style="--c:var(--m4)"') == 1
    assert "A thin upright: every seed gave the same number" in seen(text)
    assert "Some bands reach beyond the drawing" in seen(text)


def two_seeds(folder: Path, kind: str = "few") -> Path:
    """A sweep of two seeds, as the run room writes it, or as it once did with an interval over them."""
    make_sweep(folder, seeds=(0, 1))
    tree = json.loads((folder / "curves.json").read_text())
    for row in tree["rows"]:
        if row["interval"] == "seeds":
            row |= {"interval": kind, "low": None, "high": None} if kind == "few" else {"low": 0.0, "high": 1.0}
    (folder / "curves.json").write_text(json.dumps(tree))
    return folder


@pytest.mark.parametrize("kind", ["few", "seeds"])
def test_two_seeds_are_shown_themselves_and_no_interval(tmp_path: Path, kind: str) -> None:
    folder = two_seeds(tmp_path / "sweep", kind)
    text = written(folder)
    words = seen(text)
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    assert 'class="band"' not in drawn
    assert 'class="interval' not in drawn
    assert "Two seeds are too few for an interval" in words
    assert "‡ 2 seeds: too few for an interval, so the number of each stands in its place" in words
    assert "t-intervals over seeds" not in words
    assert "FLYP flyp 80.0 79.5, 80.5 ‡ α = 0.2–0.4 82.0 81.5, 82.5 ‡" in words.replace("\u202f", " ")
    assert "ZERO-SHOT zero-shot 80.0 75.0–85.0 †" in words
    markdown = (folder / "report.md").read_text()
    assert "| 80.0 (79.5, 80.5 ‡) | 82.0 (81.5, 82.5 ‡) |" in markdown
    assert "‡ too few seeds for an interval, so the number of each." in markdown
    # both stand on the drawing, above and below their mean
    svg = re.search(r"<svg.*?</svg>", text, re.S)
    assert svg
    colour = re.escape("--c:var(--m4)")
    dot = r'class="{}" style="{}" cx="([\d.]+)" cy="([\d.]+)"'
    found = [re.findall(dot.format(kind, colour), svg[0]) for kind in ("step", "seed")]
    means, each = ([(float(x), float(y)) for x, y in pairs] for pairs in found)
    assert (len(means), len(each)) == (4, 8)
    for (x, y), (a, b) in zip(means, zip(each[::2], each[1::2], strict=True), strict=True):
        assert a[0] == b[0] == x
        assert a[1] > y > b[1]
        assert (a[1] + b[1]) / 2 == pytest.approx(y, abs=0.2)
    assert "reach beyond the drawing" not in words


def test_a_method_that_few_of_the_seeds_have_is_marked(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep")
    assert "‡" not in written(folder)
    tree = json.loads((folder / "curves.json").read_text())
    row = next(r for r in tree["rows"] if (r["method"], r["shots"], r["domain"]) == ("ln", 4, "id"))
    row |= {"interval": "few", "n": 2, "values": [0.8, 0.82], "low": None, "high": None}
    (folder / "curves.json").write_text(json.dumps(tree))
    words = seen(written(folder))
    assert "81.0 80.0, 82.0 ‡ 2 seeds" in words
    assert "Small dots: a method that 2 of the seeds have, too few for an interval" in words
    assert "95 % t-intervals over seeds" in words.replace("\xa0", " ")


def test_one_seed_and_one_shot_count(tmp_path: Path) -> None:
    one = seen(written(make_sweep(tmp_path / "one", seeds=(7,))))
    assert "One seed. Bands: each run's own 95 % interval over its pictures" in one
    assert "†" not in one
    text = written(make_sweep(tmp_path / "single", shots=(4,)))
    assert 'class="band"' not in text
    dots = [float(x) for x in re.findall(r'class="step"[^>]*cx="([\d.]+)"', text)[:2]]
    assert abs(dots[0] - dots[1]) > 20  # side by side
    only = seen(written(make_sweep(tmp_path / "all", shots=(0,))))
    assert "all pictures" in only


def test_labels_of_crowded_ticks_are_left_out() -> None:
    canvas = curves.Canvas(100, 100, x_range=(0, math.log2(64)))
    kept = [text for _, text in curves._apart(canvas, curves.places([32, 40, 48, 64, 1])) if text]
    assert kept[0] == "1"
    assert "32" in kept
    assert len(kept) < 5


def test_what_cannot_be_reported_is_told(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep")
    with pytest.raises(UsageError, match="is a sweep"):
        write_report([folder, folder / "shots-1" / "seed-0"], tmp_path / "x.html")
    tree = json.loads((folder / "curves.json").read_text())
    del tree["rows"][3]["interval"]
    (folder / "curves.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"lacks or garbles 'interval'.*--resume"):
        write_report([folder], tmp_path / "x.html")
    (folder / "curves.json").unlink()
    with pytest.raises(DataError, match=r"has not finished.*--resume"):
        write_report([folder], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
