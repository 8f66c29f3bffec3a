"""The commands that train: `adapt` and `train`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli.data import (
    Classes,
    Data,
    GroupCol,
    ImageCol,
    ImageRoot,
    Json,
    LabelCol,
    MaxBad,
    OnBad,
    Ood,
    ShotIndex,
    Templates,
    open_data,
    source_options,
)  # fmt: skip
from likewise.cli.sweep import OneSeed, Seeds, Shots, cells, foreseen, many, tell
from likewise.errors import UsageError, near

if TYPE_CHECKING:
    from likewise.encoder import Encoder
    from likewise.recipe import Machine, Recipe
    from likewise.recommend import Priority

Out = Annotated[str, typer.Option("-o", "--output", help="Run folder (default: runs/NAME-01, the next free number).")]
EncoderName = Annotated[
    str, typer.Option("--encoder", "-e", help="icon-clip, open_clip:ViT-B-16/openai, hf-hub:..., local-dir:...")
]
AllowShort = Annotated[
    bool, typer.Option("--allow-short", help="Take what there is where a class has fewer than --shots.")
]
Limit = Annotated[
    str,
    typer.Option(
        "--time-limit",
        help="Like 30m or 1h30m: methods that would not end in time are left out (of a sweep: of each run).",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run, bit for bit.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the run folder holds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Audit, plans and steps; then stop.")]
PriorityOption = Annotated[
    str, typer.Option("--priority", help="What advice goes by: balanced, in-distribution or robust (to shifts).")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]
Workers = Annotated[int, typer.Option(help="Processes that decode pictures (0: this one).")]


def machine_for(device: str, workers: int) -> Machine:
    """Raises `MachineError` for a device that is not there."""
    import torch

    from likewise.recipe import Machine
    from likewise.run.device import check

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check(device)
    return Machine(device=device, workers=workers)


def priority_of(text: str) -> Priority:
    """Raises `UsageError` with the near miss."""
    from likewise.recommend import PRIORITIES

    for known in PRIORITIES:
        if text == known:
            return known
    raise UsageError("C01", f"no priority «{text}».{near(text, PRIORITIES)} Priorities: {', '.join(PRIORITIES)}.")


def _go(choose: Callable[[Encoder], dict[str, Recipe]] | None, encoder: str, data: str, ood: list[str], source: dict[str, object], out: str,
        rest: dict[str, Any]) -> int:  # fmt: skip
    """Open, run, report, print: what `adapt` and `train` share. Without `choose` the recipe is the recommended one."""
    from likewise.api import adapt, advised, last_folder, next_folder, sweep
    from likewise.cli.terminal import Bars, comparison
    from likewise.cli.terminal import out as screen
    from likewise.encoders import load
    from likewise.recipe import Experiment
    from likewise.run.device import on
    from likewise.run.folder import held

    as_json, dry, machine, grid = rest.pop("json"), rest.pop("dry"), rest.pop("machine"), rest.pop("cells")
    priority = rest.pop("priority", "balanced")
    only = {"shots": grid["shots"][0], "seed": grid["seeds"][0]}
    with Bars(quiet=as_json) as watch:
        model = load(encoder)
        recipes = choose(model) if choose else {}
        opened = open_data(data, ood, source, watch)
        on(model, machine)
        watch.say(f"encoder {model.spec.name}: {sum(p.numel() for p in model.module.parameters()):,} numbers, "
                  f"{model.spec.image_size} px, on {machine.device}"
                  + (f", learning rates times {model.rate_scale:g}" if model.rate_scale != 1 else ""))  # fmt: skip
        name = Path(data).stem or "run"
        folder = Path(out) if out else last_folder(name) if rest["resume"] else next_folder(name)
        if not choose:
            if not dry:  # before anything is measured for nothing
                held(folder, Experiment, resume=rest["resume"], overwrite=rest["overwrite"])
            recipes, advice = advised(model, opened, folder, priority=priority, machine=machine, **only, **rest)
            rest["advice"] = advice
            for line in (f"recommended: {', '.join(recipes)}", *advice.get("reasons", ())):
                watch.say(line)
        if dry:
            from likewise.cli.show import describe
            from likewise.run.before import foresee

            seen = foreseen(opened, grid, rest["allow_short"], rest["shot_index"])
            for finding in foresee(model, next(iter(seen.values())), recipes, recipes):
                watch.say(f"{finding.code} {finding.message}")
            for shots, few in seen.items():
                screen.print(f"{shots}, {len(few.train):,} to train on, {len(few.select):,} to select on:")
                screen.print(describe(recipes, model, few), markup=False)
            runs = f": {len(grid['shots']) * len(grid['seeds'])} runs and their curves" if many(grid) else ""
            screen.print(f"would write {folder}{runs}", soft_wrap=True)
            return 0
        rest |= {"command": shlex.join(["likewise", *sys.argv[1:]]), "machine": machine, "watch": watch}
        if many(grid):
            swept = sweep(model, opened, recipes, folder, **grid, **rest)
        else:
            run = adapt(model, opened, recipes, folder, **only, **rest)
    if many(grid):
        return tell(swept, as_json)
    chosen = run.results["chosen"]
    if as_json:
        plain = {"rows": run.results["rows"], "chosen": {k: chosen[k] for k in ("method", "alpha", "why")},
                 "seconds": run.results["seconds"], "out": str(run.path)}  # fmt: skip
        print(json.dumps(plain))
        return 0
    screen.print(comparison(run.results, opened.domains))
    for method, why in run.results["skipped"].items():
        screen.print(f"left out {method}: {why}", markup=False, soft_wrap=True)
    alpha = "" if chosen["alpha"] is None else f" at alpha {chosen['alpha']:g}"
    screen.print(f"\nchosen: {chosen['method']}{alpha} - {chosen['why']}", markup=False, soft_wrap=True)
    screen.print(
        "Percent with 95 % intervals. Report splits were read once, after the choice. alpha: 0 pretrained, 1 tuned."
    )
    screen.print(
        f"report  {run.path}/report.html\nmodel   {run.path}/model   (likewise predict {run.path} IMAGES...)",
        soft_wrap=True,
    )
    return 0


def adapt(
    further: typer.Context, data: Data, output: Out = "", encoder: EncoderName = "icon-clip", ood: Ood = [],
    methods: Annotated[str, typer.Option(help="Names with commas, instead of an effort's ladder (likewise ls methods).")] = "",
    recipe: Annotated[str, typer.Option(help="One only: auto (what likewise recommend names), a name, or a YAML file.")] = "",
    priority: PriorityOption = "balanced",
    effort: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "standard",
    shots: Shots = "0", shot_index: ShotIndex = "", allow_short: AllowShort = False, seed: OneSeed = None, seeds: Seeds = "",
    time_limit: Limit = "", resume: Resume = False, overwrite: Overwrite = False, dry_run: DryRun = False, json_: Json = False, device: Device = "auto", workers: Workers = 0,
    image_col: ImageCol = "", label_col: LabelCol = "", group_col: GroupCol = "", image_root: ImageRoot = "",
    classes: Classes = "", templates: Templates = "", max_bad: MaxBad = "1%", on_bad_image: OnBad = "skip",
) -> int:  # fmt: skip
    """Compare the methods on your data, in and out of distribution, choose one honestly, and keep the adapted model."""
    from likewise.api import AUTO, ladder
    from likewise.cli.terminal import seconds

    if further.args:
        raise UsageError("U01", _too_much(data, further.args))
    if recipe and methods:
        raise UsageError("U01", "--recipe names one recipe and --methods several to compare; give one of them.")
    grid = cells(shots, seed, seeds)
    source = source_options(
        image_col, label_col, group_col, image_root, classes, templates, (max_bad, on_bad_image, grid["seeds"][0])
    )
    rest = {"cells": grid, "allow_short": allow_short, "shot_index": shot_index, "resume": resume, "overwrite": overwrite, "dry": dry_run,
            "json": json_, "time_limit": seconds(time_limit) if time_limit else 0.0, "machine": machine_for(device, workers)}  # fmt: skip
    if recipe == AUTO:
        if many(grid):
            raise UsageError(
                "U01", "--recipe auto advises for one amount of data. Name methods for a sweep: --methods."
            )
        return _go(None, encoder, data, ood, source, output, {**rest, "priority": priority_of(priority)})
    if recipe:
        recipe_of(recipe)  # a wrong name is told before anything is opened
        return _go(lambda m: dict([recipe_of(recipe, m.rate_scale)]), encoder, data, ood, source, output, rest)
    return _go(
        lambda model: ladder(methods or None, effort, model.rate_scale), encoder, data, ood, source, output, rest
    )


def _too_much(data: str, words: list[str]) -> str:
    """What to do with words after adapt's data."""
    edits = [word for word in words if "=" in word]
    if edits:
        return (
            f"adapt compares methods as they are, and {edits[0]} edits one. Edits go with one method: "
            f"{shlex.join(['likewise', 'train', 'METHOD', data, *edits])} (methods: likewise ls methods)."
        )
    return f"adapt takes one DATA, here {data}; {words[0]} is one too many. Data from elsewhere: --ood NAME={words[0]}."


def train(
    recipe: Annotated[str, typer.Argument(help="A name (likewise ls methods) or a YAML file of a recipe.")], data: Data,
    edits: Annotated[list[str] | None, typer.Argument(metavar="PATH=VALUE...", help="Edits of the recipe, like stages.0.fit.lr=3e-4.")] = None,
    output: Out = "", encoder: EncoderName = "icon-clip", ood: Ood = [], shots: Shots = "0", shot_index: ShotIndex = "",
    allow_short: AllowShort = False, seed: OneSeed = None, seeds: Seeds = "", resume: Resume = False, overwrite: Overwrite = False,
    dry_run: DryRun = False, json_: Json = False, device: Device = "auto", workers: Workers = 0, image_col: ImageCol = "",
    label_col: LabelCol = "", group_col: GroupCol = "", image_root: ImageRoot = "", classes: Classes = "",
    templates: Templates = "", max_bad: MaxBad = "1%", on_bad_image: OnBad = "skip",
) -> int:  # fmt: skip
    """One method, with full control over its recipe, beside the zero-shot baseline."""
    recipe_of(recipe)  # a wrong name is told before anything is opened

    def choose(model: Encoder) -> dict[str, Recipe]:
        name, value = recipe_of(recipe, model.rate_scale)
        return {name: value.edited(*(edits or []))}

    grid = cells(shots, seed, seeds)
    source = source_options(
        image_col, label_col, group_col, image_root, classes, templates, (max_bad, on_bad_image, grid["seeds"][0])
    )
    rest = {"cells": grid, "allow_short": allow_short, "shot_index": shot_index, "resume": resume, "overwrite": overwrite, "dry": dry_run,
            "json": json_, "machine": machine_for(device, workers)}  # fmt: skip
    return _go(choose, encoder, data, ood, source, output, rest)


def recipe_of(text: str, rate_scale: float = 1.0) -> tuple[str, Recipe]:
    """A recipe by name, or from a YAML file, with the name it goes by."""
    from likewise.recipe import Recipe
    from likewise.recipes import get

    if Path(text).suffix in {".yaml", ".yml", ".json"}:
        if not Path(text).is_file():
            raise UsageError("C01", f"{text} is not a file. Write one with likewise cat NAME > {text}.")
        return Path(text).stem, Recipe.read(Path(text))
    return text, get(text, rate_scale)


COMMANDS = (adapt, train)
