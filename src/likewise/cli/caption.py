"""`caption`: tune an image tower on pictures with captions, and judge it by its features."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli.data import ImageCol, ImageRoot, Json, MaxBad, OnBad, Seed, Templates, open_data, source_options
from likewise.cli.jobs import Device, DryRun, Limit, Out, Overwrite, Resume, Workers, machine_for, recipe_of
from likewise.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from likewise.data.captions import Pairs
    from likewise.data.records import Dataset, Split
    from likewise.encoder import Encoder
    from likewise.recipe import Recipe
    from likewise.run.caption_before import Foreseen
    from likewise.run.watch import Watch

PairsArg = Annotated[
    str,
    typer.Argument(
        metavar="PAIRS",
        help="A CSV, TSV or parquet with a caption column, a COCO captions JSON, webdataset .tar shards, a folder of a Hugging Face dataset, class folders (captions by --templates), or a built-in name.",
    ),
]


def caption(
    pairs: PairsArg,
    edits: Annotated[list[str] | None, typer.Argument(metavar="PATH=VALUE...", help="Edits of the method, like stages.1.replay.weight=10; with one --method.")] = None,
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="icon-vit, icon-dino, timm:vit_base_patch16_224.dino, hf:facebook/dinov2-base, a CLIP, local-dir:...")] = "icon-vit",
    text: Annotated[str, typer.Option("--text", help="The text tower beside a vision encoder: open_clip:ViT-B-32/openai, st:all-MiniLM-L6-v2, ... (of ours: icon-clip's).")] = "",
    method: Annotated[str, typer.Option("--method", help="Names with commas, caption- left out (film, ln, token-replay, ...), or one YAML file.")] = "film",
    eval_: Annotated[list[str] | None, typer.Option("--eval", help="Labelled data to judge by; the first one's select split chooses alpha. More, unlike the captions, tell what is forgotten.")] = None,
    replay: Annotated[str, typer.Option(help="Labelled data whose training pictures replay rehearses (default: the pairs' own).")] = "",
    count: Annotated[int, typer.Option("--pairs", min=0, help="Use so many of the pairs, drawn by key (0: all).")] = 0,
    loss: Annotated[str, typer.Option(help="contrastive, or sigmoid (SigLIP's: a yes or no for each picture and text; trains a shift too). Default: the method's own, which is contrastive.")] = "",
    train_text: Annotated[bool, typer.Option("--train-text", help="Train the text tower too (it is held otherwise).")] = False,
    alpha: Annotated[str, typer.Option(help="0:1:0.25 (ends included) or 0,0.5,1.")] = "0:1:0.25",
    caption_col: Annotated[str, typer.Option(help="Column with captions, in a table.")] = "", image_col: ImageCol = "", image_root: ImageRoot = "",
    templates: Templates = "", max_bad: MaxBad = "1%", on_bad_image: OnBad = "skip", output: Out = "", seed: Seed = 0, time_limit: Limit = "", resume: Resume = False,
    overwrite: Overwrite = False, dry_run: DryRun = False, json_: Json = False, device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """Tune an image tower on pictures with captions; judge it, text thrown away, by its neighbours on labelled data."""
    from likewise.api import caption as run_caption
    from likewise.api import last_folder, next_folder
    from likewise.cli.terminal import Bars, alphas, seconds
    from likewise.cli.terminal import out as screen
    from likewise.encoders import paired
    from likewise.run.caption_before import check, foresee
    from likewise.run.planning import check_replays

    machine, grid, limit = machine_for(device, workers), alphas(alpha), seconds(time_limit) if time_limit else 0.0
    names = _names(method, edits or [])
    judged = eval_ or ["iconshift"]
    reading = source_options(rest=(max_bad, on_bad_image, seed))
    with Bars(quiet=json_) as watch:
        model = paired(encoder, text)
        recipes = dict(_recipe(n, model, edits or [], (loss, train_text)) for n in names)
        check(recipes)
        if replay:
            check_replays(recipes)
        judges = [open_data(name, [], reading, watch) for name in judged]
        source = {"caption_col": caption_col, "image_col": image_col, "image_root": image_root,
                  "templates": source_options(templates=templates)["templates"], "pairs": count}  # fmt: skip
        found = open_pairs_of(pairs, reading | source, watch)
        folder = Path(output) if output else last_folder(found.name) if resume else next_folder(found.name)
        watch.say(f"{model.spec.name}: {len(found.split):,} pictures with captions, {len(found.held):,} held back")
        rehearsed = _replayed(replay, reading, watch) if replay else None
        if dry_run:
            seen = foresee(model, found, recipes, judges, grid, watch)
            screen.print(_told({name: recipes[name] for name in seen.plans}, seen, folder), markup=False)
            return 0
        done = run_caption(
            model, found, recipes, judges, folder, replayed=rehearsed, machine=machine, watch=watch, alphas=grid,
            seed=seed, resume=resume, overwrite=overwrite, command=shlex.join(["likewise", *sys.argv[1:]]),
            time_limit=limit,
        )  # fmt: skip
    results = done.results
    if json_:
        plain = {"rows": results["rows"], "chosen": {k: results["chosen"][k] for k in ("method", "alpha", "why")},
                 "warnings": results["warnings"], "seconds": results["seconds"], "out": str(done.path)}  # fmt: skip
        print(json.dumps(plain))
        return 0
    screen.print(along(results))
    for name, why in results["skipped"].items():
        screen.print(f"left out {name}: {why}", markup=False, soft_wrap=True)
    chosen = results["chosen"]
    at = "" if chosen["alpha"] is None else f" at alpha {chosen['alpha']:g}"
    screen.print(f"\nchosen: {chosen['method']}{at} - {chosen['why']}", markup=False, soft_wrap=True)
    screen.print(
        f"{results['metric']} of the image tower alone, percent with 95 % intervals. alpha: 0 pretrained, 1 tuned."
    )
    screen.print(f"report  {done.path}/report.html\nmodel   {done.path}/model", soft_wrap=True)
    return 0


def _names(method: str, edits: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in method.split(",") if part.strip()))
    if not names:
        raise UsageError("C01", f"--method {method} names no method. Methods: likewise ls methods --like caption.")
    if edits and len(names) > 1:
        raise UsageError("U01", f"«{edits[0]}» edits one method, and --method names {len(names)}. Name one.")
    return names


def _recipe(name: str, model: Encoder, edits: Sequence[str], how: tuple[str, bool]) -> tuple[str, Recipe]:
    """The recipe of a name, `caption-` left out or not, or of a file, at the encoder's rates and with its edits.

    `how` is the loss ("": the recipe's own) and whether the text tower trains.
    """
    from likewise.recipes import for_captions
    from likewise.recipes.captions import with_loss, with_text

    loss, train_text = how

    if Path(name).suffix in {".yaml", ".yml", ".json"}:
        name, recipe = recipe_of(name)
    else:
        name, recipe = for_captions(name, model.rate_scale, model.new)
    recipe = with_loss(recipe, loss) if loss else recipe
    recipe = with_text(recipe) if train_text else recipe
    return name, recipe.edited(*edits)


def open_pairs_of(name: str, options: Mapping[str, Any], watch: Watch) -> Pairs:
    """The pairs behind a built-in name or a path, audited; labelled data gets captions by templates."""
    from likewise.data.captions import PairOptions, from_classes, open_pairs
    from likewise.datasets import CAPTIONS, DATASETS

    given = PairOptions.parse({k: v for k, v in options.items() if v not in ("", ())}, "options")
    if name in CAPTIONS:
        found = CAPTIONS[name](given)
    elif name in DATASETS:
        found = from_classes(DATASETS[name](), given.templates, given)
        found = found.subset(given.pairs, given.seed) if given.pairs else found
    else:
        found = open_pairs(name, given, watch.bar)
    watch.say(found.audit.text())
    return found


def _replayed(name: str, reading: dict[str, object], watch: Watch) -> Split:
    opened_data: Dataset = open_data(name, [], reading, watch)
    return opened_data.train


def _told(recipes: Mapping[str, Recipe], seen: Foreseen, folder: Path) -> str:
    from likewise.run.planning import steps, trained

    n = len(seen.pairs)
    lines = []
    for name, recipe in recipes.items():
        total = sum(trained(recipe, seen.plans[name]).values())
        lines.append(f"{name:24} trains {total:>12,} numbers, {steps(recipe, n, n):>6} steps   {recipe.title}")
    return "\n".join([*lines, f"would write {folder}"])


def along(results: Mapping[str, Any]) -> Table:
    """The choosing metric of every method along alpha, on each domain; the chosen row bold, with an arrow."""
    from likewise.cli.terminal import listing, percent
    from likewise.run.choose import name_of
    from likewise.run.results import find

    rows, metric, chosen = results["rows"], results["metric"], results["chosen"]
    domains = list(dict.fromkeys(r["domain"] for r in rows if r["metric"] == metric and r["split"] == "report"))
    lines = []
    for method, alpha in dict.fromkeys((r["method"], r["alpha"]) for r in rows):
        want: dict[str, Any] = {"method": method, "alpha": alpha, "metric": metric}
        cells = [percent(find(rows, split="report", domain=d, **want)) for d in domains]
        mark = "▸ " if (method, alpha) == (chosen["method"], chosen["alpha"]) else "  "
        lines.append([mark + name_of(method, alpha), percent(find(rows, domain="select", **want)), *cells])
    return listing(("method", "select", *domains), lines)


COMMANDS = (caption,)
