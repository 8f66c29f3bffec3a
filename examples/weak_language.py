"""Does interpolation recover what tuning on captions forgets? A vision encoder, few numbers, 10,000 captioned pictures.

    python examples/weak_language.py [--encoder icon-vit] [--out runs/weak-language] [--write docs/weak-language.md]

{LN, FiLM, bottleneck = token replay at weight 0, token replay at 0.1, 1 and 10, the whole tower} x 3 seeds, tuned on
icon-captions beside icon-clip's text tower, judged on IconShift (in distribution and six styles) and on digits, which
no caption speaks of. Four of them once more at HOT times their rates, at which something is forgotten. A seed is a run
folder, OUT/seed-S and OUT/hot-S; only missing ones run, and an interrupted one goes on. All methods of a run begin with the
same projection, trained once. Two processes with different --seeds share two cores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import likewise as lw
from likewise.api import caption
from likewise.cli.terminal import Bars
from likewise.data.captions import PairOptions
from likewise.datasets import CAPTIONS, DATASETS
from likewise.encoders import paired
from likewise.metrics import half_width
from likewise.recipe import AdamW, Recipe
from likewise.recipes import for_captions

SEEDS = (0, 1, 2)
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
JUDGES = ("iconshift", "digits")
REPLAYS = (0.1, 1.0, 10.0)
EPOCHS = 2
"""Of the method's own stage; its recipe has 5."""
TITLES = {
    "ln": "LN", "film": "FiLM", "bottleneck": "bottleneck (replay 0)", **{f"replay-{w:g}": f"token replay {w:g}" for w in REPLAYS},
    "full": "whole tower",
}  # fmt: skip
HOT, HOT_METHODS = 10.0, ("bottleneck", "replay-1", "replay-10", "full")
METRICS = {"knn@20": "kNN, k = 20", "linear": "Linear probe"}
START = "<!-- reading -->"

Numbers = dict[tuple[str, float | None, str, str], np.ndarray]
"""(method, alpha, domain, metric) to percent, one for each seed."""


def recipes(encoder: lw.Pair, hot: bool) -> dict[str, Recipe]:
    out = {}
    for name in HOT_METHODS if hot else TITLES:
        kind, _, weight = name.partition("-")
        recipe = for_captions("token-replay" if kind == "replay" else kind, encoder.rate_scale, encoder.new)[1]
        fit = recipe.stages[1].fit
        assert isinstance(fit, AdamW)
        edits = [f"stages.1.fit.epochs={EPOCHS}", *([f"stages.1.replay.weight={weight}"] if weight else [])]
        out[name] = recipe.edited(*edits, *([f"stages.1.fit.lr={HOT * fit.lr:g}"] if hot else []))
    return out


def folder_of(out: Path, seed: int, hot: bool) -> Path:
    return out / f"{'hot' if hot else 'seed'}-{seed}"


def run_seed(encoder: str, text: str, folder: Path, seed: int, hot: bool, watch: Bars) -> None:
    if (folder / "results.json").exists():
        return
    pair = paired(encoder, text)
    pairs = CAPTIONS["icon-captions"](PairOptions())
    judges = [DATASETS[name]() for name in JUDGES]
    asked = recipes(pair, hot)
    caption(pair, pairs, asked, judges, folder, seed=seed, alphas=ALPHAS, resume=folder.exists(), watch=watch)


def numbers(out: Path, hot: bool) -> Numbers:
    """Every number over the seeds that have ended."""
    found: dict[tuple[str, float | None, str, str], list[float]] = {}
    for seed in SEEDS:
        path = folder_of(out, seed, hot) / "results.json"
        for r in json.loads(path.read_text())["rows"] if path.exists() else ():
            if r["split"] == "report" or r["domain"] == "select":
                found.setdefault((r["method"], r["alpha"], r["domain"], r["metric"]), []).append(100 * r["value"])
    return {key: np.array(values) for key, values in found.items()}


def said(values: np.ndarray | None) -> str:
    if values is None or not len(values):
        return "–"
    return f"{values.mean():.1f}" + (f" ± {half_width(values):.1f}" if len(values) > 1 and values.std() > 1e-9 else "")


def domains_of(found: Numbers) -> list[str]:
    there = list(dict.fromkeys(d for _, _, d, m in found if m == "knn@20"))
    own = [d for d in there if ":" not in d and d not in ("select", "ood-mean")]
    return [*own, "ood-mean", *(d for d in there if ":" in d)]


def _titles(found: Numbers) -> list[tuple[str, str]]:
    there = {method for method, *_ in found}
    return [(name, title) for name, title in TITLES.items() if name in there]


def table(found: Numbers, metric: str) -> str:
    """A row for each method and alpha, a column for each domain."""
    domains = domains_of(found)
    lines = ["| method | alpha | " + " | ".join(domains) + " |", "|---|---:" + "|---:" * len(domains) + "|"]
    base = [said(found.get(("pretrained", None, d, metric))) for d in domains]
    lines.append("| pretrained | 0 | " + " | ".join(base) + " |")
    for name, title in _titles(found):
        for alpha in ALPHAS[1:]:
            cells = [said(found.get((name, alpha, d, metric))) for d in domains]
            lines.append(f"| {title} | {alpha:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(found: Numbers) -> str:
    """What the way back is worth: the best alpha strictly between the ends, chosen on IconShift's select split."""
    lines = [
        "| method | metric | domain | change at alpha 1 | alpha chosen on select | change there | what the way back adds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, title in _titles(found):
        for metric, called in METRICS.items():
            inner = [a for a in ALPHAS if 0 < a < 1 and (name, a, "select", metric) in found]
            if not inner:
                continue
            # equal counts of pictures are a tie, whatever the last bits of their means
            best = max(inner, key=lambda a: (round(found[name, a, "select", metric].mean(), 6), -a))
            for domain in ("id", "ood-mean", "digits:id"):
                if (name, best, domain, metric) not in found:
                    continue
                zero = found["pretrained", None, domain, metric]
                end, there = found[name, 1.0, domain, metric] - zero, found[name, best, domain, metric] - zero
                lines.append(
                    f"| {title} | {called} | {domain} | {said(end)} | {best:g} | {said(there)} | {said(there - end)} |"
                )
    return "\n".join(lines)


def page(out: Path, encoder: str, text: str) -> str:
    each = [folder_of(out, seed, hot) for hot in (False, True) for seed in SEEDS]
    done = sum((folder / "results.json").exists() for folder in each)
    waits = "" if done == len(each) else f" **{done} of {len(each)} runs are there.**"
    parts = [
        "# Weak language supervision: what tuning on captions gives and takes",
        "",
        f"Made by `python examples/weak_language.py --encoder {encoder}`, beside it and {text}'s text tower, tuned on icon-captions (9,500",
        f"pictures; five epochs of the projection alone, {EPOCHS} of the method, batches of 128) and judged on IconShift and, for what",
        f"is forgotten, on digits. Percent of the report pictures, mean over {len(SEEDS)} seeds (order, captions, starts) with 95 %",
        "t-intervals over seeds; the pretrained encoder has no spread. Training pictures of each data set vote and fit its",
        f"probe. alpha * tuned + (1 - alpha) * pretrained, of adapters their answer times alpha.{waits}",
        "",
    ]
    for hot, where in ((False, ""), (True, f", at {HOT:g} times the rates")):
        found = numbers(out, hot)
        for metric, called in METRICS.items():
            parts += [f"## {called}{where}", "", table(found, metric), ""]
        told = "Differences to the pretrained encoder, in points."
        parts += [f"## Is what was lost won back{where}?", "", told, "", claims(found), ""]
    parts.append(START)
    return "\n".join(parts) + "\n"


def main(
    encoder: Annotated[
        str, typer.Option(help="A vision encoder: timm:NAME.TAG, hf:NAME, local-dir:FOLDER.")
    ] = "icon-vit",
    out: Path = Path("runs/weak-language"),
    write: Path = Path("docs/weak-language.md"),
    text: str = "icon-clip",
    seeds: Annotated[str, typer.Option(help="Those to run now; the page is of all that are there.")] = ",".join(
        map(str, SEEDS)
    ),
    threads: Annotated[int, typer.Option(help="Threads of this process.")] = 2,
) -> None:
    torch.set_num_threads(threads)
    typer.echo(f"{encoder} + {text}, alphas {ALPHAS}, seeds {SEEDS}, replay weights {REPLAYS}")
    with Bars() as watch:
        for seed in map(int, seeds.split(",")):
            for hot in (False, True):
                folder = folder_of(out, seed, hot)
                watch.part(str(folder))
                run_seed(encoder, text, folder, seed, hot, watch)
    old = write.read_text() if write.exists() else ""
    write.write_text(page(out, encoder, text) + old.partition(START)[2].lstrip("\n"))
    typer.echo(f"written to {write}")


if __name__ == "__main__":
    typer.run(main)
