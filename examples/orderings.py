"""Which of the papers' orderings hold on IconShift: FT, LP-FT, FLYP and LayerNorm tuning with their WiSE paths, five seeds.

    python examples/orderings.py [--seeds 5] [--out runs/orderings] [--write docs/orderings.md]

About 4 minutes a seed on 2 cores. Each seed is a run folder; only missing ones run. Writes a Markdown table with 95 %
t-intervals over seeds, and beside it the differences, paired by seed, that the papers' claims are about.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import likewise as lw
from likewise.cli.terminal import Bars
from likewise.datasets import DATASETS
from likewise.metrics import half_width
from likewise.run.results import find

METHODS = ("ft", "lp-ft", "flyp", "ln")
ALPHAS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
TITLES = {"ft": "FT", "lp-ft": "LP-FT", "flyp": "FLYP", "ln": "LN", "zero-shot": "zero-shot", "linear": "LP"}


def interval(values: list[float]) -> str:
    """Mean and half-width of the 95 % t-interval over seeds, in percent or points."""
    x = 100 * np.array(values)
    return f"{x.mean():.1f} ± {half_width(x):.1f}"


def verdict(values: list[float]) -> str:
    """Whether the paired difference is told apart from zero at 95 %."""
    x = np.array(values)
    half = half_width(x)
    return "holds" if x.mean() - half > 0 else "reversed" if x.mean() + half < 0 else "not told apart"


def main(
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    out: Path = Path("runs/orderings"),
    write: Path = Path("docs/orderings.md"),
) -> None:
    encoder = lw.load("icon-clip")
    runs = []
    with Bars() as watch:
        for seed in range(seeds):
            folder = out / f"seed-{seed}"
            if not (folder / "results.json").exists():
                recipe = {name: lw.recipes.RECIPES[name] for name in ("linear", *METHODS)}
                lw.adapt(
                    encoder, DATASETS["iconshift"](), recipe, folder, seed=seed, alphas=ALPHAS, resume=True, watch=watch
                )
            runs.append(lw.Run.load(folder).results)

    def value(run: dict, method: str, alpha: float | None, domain: str) -> float:
        split = "select" if domain == "select" else "report"
        row = find(
            run["rows"],
            method=method,
            alpha=alpha,
            split=split,
            metric="accuracy",
            domain="id" if domain == "select" else domain,
        )
        assert row is not None
        return float(row["value"])

    def over(method: str, alpha: float | None, domain: str) -> list[float]:
        return [value(run, method, alpha, domain) for run in runs]

    def on_select(method: str, domain: str) -> list[float]:
        """At the alpha that is best on each seed's select split, the smallest of equals."""
        out = []
        for run in runs:
            best = max(ALPHAS, key=lambda a: (value(run, method, a, "select"), -a))
            out.append(value(run, method, best, domain))
        return out

    lines = ["| method | alpha | in distribution | OOD mean |", "|---|---|---:|---:|"]
    lines.append(
        f"| zero-shot | | {100 * over('zero-shot', None, 'id')[0]:.1f} | {100 * over('zero-shot', None, 'ood-mean')[0]:.1f} |"
    )
    lines.append(f"| LP | 1 | {interval(over('linear', 1.0, 'id'))} | {interval(over('linear', 1.0, 'ood-mean'))} |")
    for method in METHODS:
        for alpha in ALPHAS[1:]:
            lines.append(
                f"| {TITLES[method]} | {alpha:g} | {interval(over(method, alpha, 'id'))} | {interval(over(method, alpha, 'ood-mean'))} |"
            )
        lines.append(
            f"| {TITLES[method]} | best on select | {interval(on_select(method, 'id'))} | {interval(on_select(method, 'ood-mean'))} |"
        )

    def minus(a: list[float], b: list[float]) -> list[float]:
        return [x - y for x, y in zip(a, b, strict=True)]

    Claim = tuple[str, str, Callable[[], list[float]]]
    claims: list[Claim] = [
        ("Kumar et al.: LP-FT beats FT out of distribution", "OOD", lambda: minus(over("lp-ft", 1.0, "ood-mean"), over("ft", 1.0, "ood-mean"))),
        ("Kumar et al.: LP-FT is no worse than FT in distribution", "ID", lambda: minus(over("lp-ft", 1.0, "id"), over("ft", 1.0, "id"))),
        ("Kumar et al.: FT beats LP in distribution", "ID", lambda: minus(over("ft", 1.0, "id"), over("linear", 1.0, "id"))),
        ("Kumar et al.: LP beats FT out of distribution", "OOD", lambda: minus(over("linear", 1.0, "ood-mean"), over("ft", 1.0, "ood-mean"))),
        ("Goyal et al.: FLYP beats FT out of distribution", "OOD", lambda: minus(over("flyp", 1.0, "ood-mean"), over("ft", 1.0, "ood-mean"))),
        ("Goyal et al.: FLYP beats FT in distribution", "ID", lambda: minus(over("flyp", 1.0, "id"), over("ft", 1.0, "id"))),
        ("Goyal et al.: FLYP beats LP-FT out of distribution", "OOD", lambda: minus(over("flyp", 1.0, "ood-mean"), over("lp-ft", 1.0, "ood-mean"))),
        *((f"Wortsman et al.: alpha 0.5 beats alpha 1 out of distribution ({TITLES[m]})", "OOD",
           lambda m=m: minus(over(m, 0.5, "ood-mean"), over(m, 1.0, "ood-mean"))) for m in METHODS),
        *((f"Wortsman et al.: alpha 0.5 beats zero-shot in distribution ({TITLES[m]})", "ID",
           lambda m=m: minus(over(m, 0.5, "id"), over("zero-shot", None, "id"))) for m in METHODS),
        ("Goyal et al.: FLYP + WiSE (0.5) beats FT + WiSE (0.5) out of distribution", "OOD", lambda: minus(over("flyp", 0.5, "ood-mean"), over("ft", 0.5, "ood-mean"))),
        ("Kim et al.: LN tuning beats LP in distribution", "ID", lambda: minus(over("ln", 1.0, "id"), over("linear", 1.0, "id"))),
        ("LN tuning keeps more than FT out of distribution", "OOD", lambda: minus(over("ln", 1.0, "ood-mean"), over("ft", 1.0, "ood-mean"))),
    ]  # fmt: skip
    told = ["| claim | difference, points | here |", "|---|---:|---|"]
    told += [f"| {name} | {interval(found := difference())} | {verdict(found)} |" for name, _, difference in claims]
    first = runs[0]
    counts = {
        d: find(first["rows"], method="zero-shot", split="report", domain=d, metric="accuracy")["n"]
        for d in ("id", "ood-mean")
    }  # type: ignore[index]
    text = f"""# Which of the papers' orderings hold on IconShift

Made by `python examples/orderings.py --seeds {seeds}` with icon-clip, on {os.cpu_count()} CPU cores. Top-1 accuracy in
percent, mean over {seeds} seeds (order and captions; the data are the same) with 95 % t-intervals over seeds;
{counts["id"]} pictures in distribution, {counts["ood-mean"]} over the other styles, whose mean is unweighted. The interval
over seeds says how repeatable training is, not how the numbers would move with other pictures: for that, one run's table
has Wilson intervals of about ± 5 points.

{chr(10).join(lines)}

## The claims

Differences are paired by seed; "holds" and "reversed" mean that the 95 % interval over seeds excludes zero.

{chr(10).join(told)}

<!-- reading -->
"""
    old = write.read_text() if write.exists() else ""
    reading = old.partition("<!-- reading -->\n")[2]  # what a person wrote about the table stays
    write.parent.mkdir(parents=True, exist_ok=True)
    write.write_text(text + reading)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
