"""Kim et al.'s four regimes, small: how much data, and how far from the pretraining, against which few numbers to tune.

    python examples/four_regimes.py [--out runs/four-regimes] [--write docs/four-regimes.md] [--only iconshift]

{IconShift (similar); digits, Fashion-MNIST (dissimilar)} x {1, 4, 16 shots; all} x 17 methods x 3 seeds with icon-clip.
A cell is a run folder, OUT/DATA/shots-K/seed-S; only missing ones run, and an interrupted one goes on. Cells of different
data are independent, so two processes with different --only share the work of two cores.

The rate of each method is fitted on seed 0's select split from a ladder of three, the same ladder for all that train a
part, ten or thirty times lower for all that train whole towers; seeds 1 and 2 take it. Steps are the same for every method.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import likewise as lw
from likewise import files
from likewise.cli.terminal import Bars
from likewise.data.records import Dataset
from likewise.datasets import DATASETS
from likewise.metrics import half_width
from likewise.recipe import AdamW, Recipe, joint, then
from likewise.recipes import RECIPES
from likewise.run.results import find

DATA = ("iconshift", "digits", "fashion-mnist")
SHOTS = (1, 4, 16, 0)
SEEDS = (0, 1, 2)
BATCH = 32
STEPS = {1: 60, 4: 60, 16: 120, 0: 120}
MOST = {"train": 2000, "select": 300, "id": 500}
"""Pictures of a split at most, drawn by key."""
LADDER = (5e-4, 2.5e-3, 1.25e-2)
"""Rates for what trains norms or new numbers; whole towers get WHOLE times these."""
WHOLE = 0.05
TITLES = {
    "zero-shot": "zero-shot", "ln": "LN", "probe": "linear probe", "prompt": "prompt", "adapter": "adapter", "compacter": "Compacter",
    "joint-probe": "LN + linear probe", "joint-prompt": "LN + prompt", "joint-adapter": "LN + adapter", "joint-compacter": "LN + Compacter",
    "init-probe": "LN, then linear probe", "init-prompt": "LN, then prompt", "init-adapter": "LN, then adapter",
    "init-compacter": "LN, then Compacter", "ft": "full fine-tuning", "lora": "LoRA", "flyp": "FLYP",
}  # fmt: skip
METHODS = tuple(TITLES)[1:]
PROBE = "linear-pooled"
"""The linear probe goes by its own name in results: it is a named recipe, unchanged."""


def recipe_of(method: str, rate: float, epochs: int) -> Recipe:
    """The method at a rate. The probe alone is solved exactly, its C chosen on select along its path: no rate."""
    if method == "probe":
        return RECIPES[PROBE]
    if method == "init-probe":
        return then(recipe_of("ln", rate, epochs), RECIPES[PROBE])
    if method.startswith("joint-"):
        return joint(recipe_of("ln", rate, epochs), _sized(RECIPES[f"kim-{method[6:]}"], rate, epochs))
    if method.startswith("init-"):
        return then(recipe_of("ln", rate, epochs), _sized(RECIPES[f"kim-{method[5:]}"], rate, epochs))
    if method in ("ft", "lora", "flyp"):
        return _sized(RECIPES[method], rate * (1 if method == "lora" else WHOLE), epochs)
    return _sized(RECIPES[f"kim-{method}"], rate, epochs)


def _sized(recipe: Recipe, rate: float, epochs: int) -> Recipe:
    stages = []
    for stage in recipe.stages:
        fit = stage.fit
        if isinstance(fit, AdamW):
            fit = AdamW(
                lr=rate, epochs=epochs, batch=BATCH, warmup=0.1, decay=0.02, decay_all=True, sampling=fit.sampling
            )
        stages.append(stage.model_copy(update={"fit": fit}))
    return recipe.model_copy(update={"stages": tuple(stages)})


def data_of(name: str, shots: int, seed: int) -> Dataset:
    """The cell's pictures: subsets of every split, in-distribution report only, then the shots."""
    data = DATASETS[name]().thinned(MOST, "four-regimes")
    return data.few(shots, seed, allow_short=True) if shots else data


def cell(out: Path, name: str, shots: int, seed: int, watch: Bars) -> dict:
    """The cell's results, run where they are missing."""
    folder = out / name / f"shots-{shots or 'all'}" / f"seed-{seed}"
    if not (folder / "results.json").exists():
        data = data_of(name, shots, seed)
        epochs = max(1, round(STEPS[shots] / -(-len(data.train) // BATCH)))
        recipes = {}
        for method in METHODS:
            if method == "probe":
                recipes[PROBE] = recipe_of(method, 0, epochs)
                continue
            for rate in LADDER if seed == 0 else (fitted(out, name, shots)[method],):
                recipes[f"{method}@{rate:g}"] = recipe_of(method, rate, epochs)
        lw.adapt(lw.load("icon-clip"), data, recipes, folder, seed=seed, alphas=(1.0,), resume=True, watch=watch)
        for part in ("methods", "model"):  # results are kept; 1,500 models are not
            shutil.rmtree(folder / part)
    return json.loads((folder / "results.json").read_text())


def accuracy(results: dict, method: str, split: str) -> float:
    row = find(
        results["rows"], method=method, split=split, domain="id", metric="accuracy", alpha=alpha_of(results, method)
    )
    assert row is not None, method
    return float(row["value"])


def alpha_of(results: dict, method: str) -> float | None:
    return 1.0 if results["methods"][method]["alphas"] else None


def fitted(out: Path, name: str, shots: int) -> dict[str, float]:
    """Each method's rate: the best on seed 0's select split, of equals the middle one, then the lower."""
    results = json.loads((out / name / f"shots-{shots or 'all'}" / "seed-0" / "results.json").read_text())
    best: dict[str, tuple[float, int, float]] = {}
    for key in results["methods"]:
        method, _, rate = key.partition("@")
        if rate:
            found = (accuracy(results, key, "select"), int(float(rate) == LADDER[1]), -float(rate))
            best[method] = max(best.get(method, found), found)
    return {method: -found[2] for method, found in best.items()}


SINGLE = ("zero-shot", "ln", "probe", "prompt", "adapter", "compacter", "ft", "lora", "flyp")
OTHERS = ("probe", "prompt", "adapter", "compacter")
QUADRANTS = {
    "low, similar": (("iconshift",), (1, 4, 16)), "low, dissimilar": (("digits", "fashion-mnist"), (1, 4, 16)),
    "high, similar": (("iconshift",), (0,)), "high, dissimilar": (("digits", "fashion-mnist"), (0,)),
}  # fmt: skip
KIM_FIGURE_3 = {  # mean accuracy per quadrant, in the order of QUADRANTS
    "zero-shot": (76.01, 34.93, 78.11, 32.65), "ln": (83.74, 53.98, 90.63, 75.60), "probe": (73.08, 52.00, 89.29, 74.57),
    "prompt": (77.05, 46.35, 88.07, 72.26), "adapter": (79.03, 50.69, 88.94, 74.12), "compacter": (82.83, 53.48, 90.40, 73.11),
    "ft": (21.98, 12.61, 21.76, 27.57),
}  # fmt: skip
KIM_FIGURE_5 = {
    "init-probe": (76.93, 56.29, 91.30, 77.43), "init-prompt": (78.73, 49.16, 90.97, 75.36),
    "init-adapter": (79.96, 53.31, 90.80, 76.46), "init-compacter": (84.07, 53.46, 90.57, 75.77),
}  # fmt: skip
KIM_TABLE_1 = {  # low: none, joint, LN first; high: none, joint, LN first
    "probe": (62.54, 63.55, 66.61, 81.93, 83.84, 84.36), "prompt": (61.70, 62.82, 63.95, 80.26, 83.69, 83.17),
    "adapter": (64.82, 66.23, 66.63, 81.53, 83.31, 83.63), "compacter": (68.15, 69.69, 68.76, 81.75, 83.61, 83.17),
}  # fmt: skip

Values = dict[tuple[str, str, int, int], float]
"""(method, data, shots, seed) to accuracy on the report split, in percent."""


def there(out: Path, name: str, shots: int, seed: int) -> bool:
    """Whether the cell has ended."""
    return (out / name / f"shots-{shots or 'all'}" / f"seed-{seed}" / "results.json").exists()


def values_of(out: Path) -> Values:
    found: Values = {}
    for name in DATA:
        for shots in SHOTS:
            here = [seed for seed in SEEDS if there(out, name, shots, seed)]
            rates = fitted(out, name, shots) if 0 in here else {}
            for seed in here:
                results = json.loads(
                    (out / name / f"shots-{shots or 'all'}" / f"seed-{seed}" / "results.json").read_text()
                )
                for method in TITLES:
                    key = f"{method}@{rates[method]:g}" if method in rates else PROBE if method == "probe" else method
                    found[method, name, shots, seed] = 100 * accuracy(results, key, "report")
    return found


def over_seeds(values: Values, method: str, cells: list[tuple[str, int]]) -> np.ndarray:
    """The mean over cells for each seed."""
    return np.array(
        [np.mean([values.get((method, name, shots, seed), np.nan) for name, shots in cells]) for seed in SEEDS]
    )


def said(x: np.ndarray) -> str:
    return "–" if np.isnan(x).any() else f"{x.mean():.1f} ± {half_width(x):.1f}"


def verdict(x: np.ndarray) -> str:
    if np.isnan(x).any():
        return "cells are missing"
    return "holds" if x.mean() - half_width(x) > 0 else "reversed" if x.mean() + half_width(x) < 0 else "not told apart"


def cells_of(quadrant: str) -> list[tuple[str, int]]:
    names, shots = QUADRANTS[quadrant]
    return [(name, k) for name in names for k in shots]


def low_high(which: str) -> list[tuple[str, int]]:
    """Kim's averages: both similarities with equal weight, so the similar data count twice beside two dissimilar."""
    return [
        cell for q in QUADRANTS if q.startswith(which) for cell in cells_of(q) * (2 if "dissimilar" not in q else 1)
    ]


def tables(out: Path) -> str:
    v = values_of(out)
    parts = ["## Every cell", ""]
    head = [f"{name} {shots or 'all'}" for name in DATA for shots in SHOTS]
    parts += ["| method | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for method, title in TITLES.items():
        row = [said(over_seeds(v, method, [(name, shots)])) for name in DATA for shots in SHOTS]
        parts.append(f"| {title} | " + " | ".join(row) + " |")
    parts += [
        "",
        "## The four regimes",
        "",
        "Here (mean of the regime's cells), then Kim et al.'s Figures 3 and 5 (ViT-B/16, other data).",
        "",
    ]
    parts += ["| method | " + " | ".join(f"{q} | Kim" for q in QUADRANTS) + " |", "|---" + "|---:|---:" * 4 + "|"]
    for method, title in TITLES.items():
        kim = {**KIM_FIGURE_3, **KIM_FIGURE_5}.get(method, (None,) * 4)
        row = [
            f"{said(over_seeds(v, method, cells_of(q)))} | {'' if k is None else f'{k:.1f}'}"
            for q, k in zip(QUADRANTS, kim, strict=True)
        ]
        parts.append(f"| {title} | " + " | ".join(row) + " |")
    parts += ["", "## LayerNorm tuning combined (Kim et al., Table 1)", ""]
    columns = [f"{w}: {how} | Kim" for w in ("low", "high") for how in ("none", "joint", "LN first")]
    parts += ["| method | " + " | ".join(columns) + " |", "|---" + "|---:|---:" * 6 + "|"]
    for other in OTHERS:
        kim = KIM_TABLE_1[other]
        ways = [(w, m) for w in ("low", "high") for m in (other, f"joint-{other}", f"init-{other}")]
        row = [f"{said(over_seeds(v, m, low_high(w)))} | {k:.1f}" for (w, m), k in zip(ways, kim, strict=True)]
        parts.append(f"| {TITLES[other]} | " + " | ".join(row) + " |")
    parts += [
        "",
        "## What of their findings holds here",
        "",
        "| finding | where | difference, points | here |",
        "|---|---|---:|---|",
    ]

    def tell(finding: str, where: str, x: np.ndarray) -> None:
        parts.append(f"| {finding} | {where} | {said(x)} | {verdict(x)} |")

    def beats_best(method: str, rivals: list[str], cells: list[tuple[str, int]]) -> tuple[str, np.ndarray]:
        best = max(rivals, key=lambda m: np.nan_to_num(over_seeds(v, m, cells).mean()))
        return TITLES[best], over_seeds(v, method, cells) - over_seeds(v, best, cells)

    for q in QUADRANTS:
        best, x = beats_best("ln", ["probe", "prompt", "adapter", "compacter"], cells_of(q))
        tell(f"LN is the strongest of their single methods (next or better: {best})", q, x)
    for which in ("low", "high"):
        for other in OTHERS:
            for way, name in (("joint", "joint"), ("init", "LN first")):
                x = over_seeds(v, f"{way}-{other}", low_high(which)) - over_seeds(v, other, low_high(which))
                tell(f"{TITLES[other]}: {name} beats the method alone", f"{which} data", x)
    combined = [f"{way}-{other}" for way in ("joint", "init") for other in OTHERS]
    for method, which in (("joint-compacter", "low"), ("init-probe", "high")):
        rivals = [m for m in (*combined, "ln", *OTHERS) if m != method]
        best, x = beats_best(method, rivals, low_high(which))
        tell(f"{TITLES[method]} is the best of their methods (next or better: {best})", f"{which} data", x)
    tell(
        "LN beats full fine-tuning at a fitted rate",
        "low data",
        over_seeds(v, "ln", low_high("low")) - over_seeds(v, "ft", low_high("low")),
    )
    tell(
        "LN beats full fine-tuning at a fitted rate",
        "high data",
        over_seeds(v, "ln", low_high("high")) - over_seeds(v, "ft", low_high("high")),
    )
    parts += [
        "",
        "## Rates that were fitted",
        "",
        "| method | " + " | ".join(head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]
    chosen = {(n, k): fitted(out, n, k) if there(out, n, k, 0) else {} for n in DATA for k in SHOTS}
    for method in METHODS:
        if method != "probe":
            scale = WHOLE if method in ("ft", "flyp") else 1
            found = [chosen[name, shots].get(method) for name in DATA for shots in SHOTS]
            row = ["–" if rate is None else f"{scale * rate:.2g}" for rate in found]
            parts.append(f"| {TITLES[method]} | " + " | ".join(row) + " |")
    return "\n".join(parts)


def page(out: Path) -> str:
    """The page, as far as cells are there; a dash stands where one is missing."""
    every = [(name, shots, seed) for name in DATA for shots in SHOTS for seed in SEEDS]
    missing = sum(not there(out, *key) for key in every)
    waits = (
        f"\n\n**{missing} of {len(every)} cells are still to be run; what needs them is a dash.**" if missing else ""
    )
    steps = ", ".join(f"{k or 'all'}: {n}" for k, n in STEPS.items())
    most = ", ".join(f"{n:,} pictures of {split}" for split, n in MOST.items())
    return f"""# Kim et al.'s four regimes, small

Made by `python examples/four_regimes.py` with icon-clip. IconShift is like the pretraining data, digits and
Fashion-MNIST are not (zero-shot row). Top-1 accuracy in percent on the in-distribution report split, mean over
{len(SEEDS)} seeds (which pictures are the shots, their order, starts) with 95 % t-intervals over seeds; "all" has the
same pictures for every seed. Steps of {BATCH} pictures by shots: {steps}; the same for every
method and stage. At most {most}, drawn by key.
AdamW, warm-up 0.1, cosine, decay 0.02, gradient norm at most 1. Each method's rate is fitted on seed 0's select split (min(K, 4) pictures a class; the whole split for "all") from a ladder of three,
{", ".join(f"{r:g}" for r in LADDER)}, {1 / WHOLE:g} times lower for full fine-tuning and FLYP; seeds 1 and 2 take it. The linear
probe is solved exactly on features before the projection, its C fitted on select along a path of nine. Methods that
change the text tower or the head alone see the evaluation view, the others random crops. Few pictures to select on
(10 at one shot of digits) make the fitted rate a rough guess, for every method alike.

Low is the mean over 1, 4 and 16 shots, high is all. Kim et al.: ViT-B/16, 12 data sets, 100 or 50 epochs at one rate,
5e-4, for every method (at which full fine-tuning collapses), low 1 to 16 shots, high 256 and 512.{waits}

{tables(out)}

<!-- reading -->
"""


def main(
    out: Path = Path("runs/four-regimes"),
    write: Path = Path("docs/four-regimes.md"),
    only: Annotated[str, typer.Option(help="Names of data sets with commas.")] = "",
    threads: Annotated[int, typer.Option(help="Threads of this process.")] = 1,
) -> None:
    torch.set_num_threads(threads)
    names = only.split(",") if only else list(DATA)
    typer.echo(
        f"steps {STEPS}, batch {BATCH}, pictures at most {MOST}, rates {LADDER} (whole towers x {WHOLE}), seeds {SEEDS}"
    )
    with Bars() as watch:
        for shots in SHOTS:
            for seed in SEEDS:
                for name in names:
                    watch.say(f"cell {name}, {shots or 'all'} shots, seed {seed}")
                    cell(out, name, shots, seed, watch)
    reading = write.read_text().partition("<!-- reading -->\n")[2] if write.exists() else ""  # a person's words stay
    files.write_text(write, page(out) + reading)
    typer.echo(f"wrote {write}")


if __name__ == "__main__":
    typer.run(main)
