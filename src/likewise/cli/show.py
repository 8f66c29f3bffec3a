"""The commands that tell: `plan`, `report`, `ls`, `cat`, `schema`, `doctor`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli.data import Json
from likewise.errors import UsageError, near

if TYPE_CHECKING:
    from likewise.data.records import Dataset
    from likewise.encoder import Encoder
    from likewise.recipe import Recipe
    from likewise.suites import Suite


def describe(recipes: Mapping[str, Recipe], encoder: Encoder, data: Dataset) -> str:
    """Each recipe with what it trains and how many steps it takes on this data."""
    from likewise.run.planning import plans, steps, trained

    lines = []
    for name, recipe in recipes.items():
        total = sum(trained(recipe, plans(recipe, encoder, len(data.classes), len(data.train))).values())
        count = steps(recipe, len(data.train), len(data.classes))
        lines.append(f"{name:16} trains {total:>12,} numbers, {count:>6} steps   {recipe.title} ({recipe.paper})")
    return "\n".join(lines)


def plan(
    recipe: Annotated[str, typer.Argument(help="A name (likewise ls methods) or a YAML file.")],
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Weights are not needed: open_clip:ViT-B-16 will do.")] = "icon-clip",
    classes: Annotated[int, typer.Option(help="Number of classes, for heads of class rows.")] = 0,
    pictures: Annotated[int, typer.Option(help="Number of training pictures, for heads that keep them.")] = 0, json_: Json = False,
) -> int:  # fmt: skip
    """What would train, with numbers, without data."""
    from likewise.cli.jobs import recipe_of
    from likewise.cli.terminal import listing, out
    from likewise.encoders import load
    from likewise.run.planning import plans, trained

    name, value = recipe_of(recipe)
    model = load(encoder, weights=False)
    found = trained(value, plans(value, model, classes, pictures))
    everything = sum(p.numel() for p in model.parameters_by_name().values())
    held = everything - sum(n for key, n in found.items() if not key.startswith(("head.", "adapters.")))
    note = "" if all(found.values()) else "What is 0 grows with the data; say --classes N or --pictures N to count it."
    if json_:
        print(
            json.dumps(
                {
                    "recipe": name,
                    "encoder": encoder,
                    "trainable": sum(found.values()),
                    "held": held,
                    "names": list(found),
                    "note": note,
                }
            )
        )
        return 0
    out.print(f"{name}: {value.title} ({value.paper}) on {encoder}", markup=False)
    out.print(listing(("parameter", "numbers"), [(key, f"{n:,}") for key, n in found.items()]))
    out.print(f"trains {sum(found.values()):,} numbers, holds {held:,}")
    if note:
        out.print(note)
    return 0


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or one sweep's.")],
    output: Annotated[str, typer.Option("-o", "--output", help="HTML file (default: report.html in the first run).")] = "",
) -> int:  # fmt: skip
    """Write the report of one run or one sweep, or compare several runs."""
    from likewise.cli.terminal import out
    from likewise.report import write_report

    path = write_report(runs, Path(output) if output else runs[0] / "report.html")
    out.print(str(path), soft_wrap=True)
    return 0


def _methods(like: str) -> list[dict[str, Any]]:
    """A row for each recipe, read off the values and off one small encoder of each family."""
    from likewise.encoders.samples import NAMES, sample
    from likewise.recipes import FAMILIES as FILES
    from likewise.recipes import LADDERS, RECIPES
    from likewise.run.support import support

    encoders = {family: sample(family) for family in NAMES}
    home = {name: file for file, recipes in FILES.items() for name in recipes}
    return [{"name": n, "family": home[n], "title": r.title, "stages": len(r.stages),
             "trains": "; ".join(", ".join(s.trains) or "-" for s in r.stages), **support(r, encoders),
             "effort": ", ".join(e for e, names in LADDERS.items() if n in names), "paper": r.paper}
            for n, r in RECIPES.items() if like.lower() in n.lower()]  # fmt: skip


KINDS = ("methods", "datasets", "suites", "models", "encoders")


def ls(
    kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))] = "methods", json_: Json = False,
    like: Annotated[str, typer.Option(help="Only names that contain this.")] = "",
) -> int:  # fmt: skip
    """What there is: methods, datasets, models."""
    from likewise.cli.terminal import listing, out

    rows: list[dict[str, Any]]
    if kind == "methods":
        from likewise.encoders.samples import NAMES

        rows = _methods(like)
        if not json_:
            short = ("name", *NAMES, "folds", "path", "soup", "text", "effort", "title")
            rows = [{key: str(row[key]).partition(":")[0] if key != "title" else row[key] for key in short}
                    for row in rows]  # fmt: skip
    elif kind == "datasets":
        rows = _datasets(json_)
    elif kind == "suites":
        from likewise.suites import load, names

        suites = {name: load(name)[1] for name in names()}
        rows = [{"name": n, "cells": len(s.cells), "published": len(s.expect), "missing data": _missing(s), "title": s.title}
                for n, s in suites.items()]  # fmt: skip
        if not json_:
            rows = [row | {"missing data": ", ".join(row["missing data"]) or "-"} for row in rows]
    elif kind in ("models", "encoders"):
        import open_clip

        from likewise.encoders import BUILT_IN

        rows = [{"name": n, "weights": "ships with likewise"} for n in BUILT_IN]
        rows += [{"name": f"open_clip:{m}", "weights": ", ".join(open_clip.list_pretrained_tags_by_model(m)) or "-"}
                 for m in open_clip.list_models()]  # fmt: skip
    else:
        raise UsageError("C01", f"no list «{kind}».{near(kind, KINDS)} Lists: {', '.join(KINDS)}.")
    rows = [row for row in rows if like.lower() in row["name"].lower()]
    if json_:
        print(json.dumps(rows))
    elif rows:
        out.print(listing(list(rows[0]), [[str(v) for v in row.values()] for row in rows]))
    return 0


def _datasets(whole: bool) -> list[dict[str, Any]]:
    """Each dataset, whether it is here and where it was looked for; `whole`: with licence, counts and how to get it."""
    from likewise.datasets import CAPTIONS, DATASETS

    rows: list[dict[str, Any]] = []
    for has, entries in (("classes", DATASETS.values()), ("captions", [entry.place for entry in CAPTIONS.values()])):
        for entry in entries:
            place = entry.found()
            here = "ships or in a package" if not entry.folders else str(place) if place else "no"
            row: dict[str, Any] = {"name": entry.name, "has": has, "here": here, "title": entry.title}
            if whole:
                row |= {"looked": [str(p) for p in entry.places()], "get": entry.get, "licence": entry.licence,
                        "paper": entry.paper, "counts": dict(entry.counts), "notes": entry.notes}  # fmt: skip
            rows.append(row)
    return rows


def _missing(suite: Suite) -> dict[str, str]:
    """The data sets and published choices of a suite that are not here: where each was looked for, how to get it."""
    from likewise.bench.cells import missing, unchosen

    cells = suite.cells
    names = {c.dataset for c in cells} | {c.episodes.of for c in cells if c.episodes}
    found = {name: why for name in names if (why := missing(name))}
    found |= {cell.shot_index: why for cell in cells if (why := unchosen(cell))}
    return dict(sorted(found.items()))


def cat(
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe, a suite, a built-in dataset or model; suite:NAME where a recipe has that name too."
        ),
    ],
) -> int:
    """Print a recipe or a suite as YAML, or the card of a built-in dataset or model."""
    from likewise import suites
    from likewise.datasets import CARDS, about
    from likewise.encoders import BUILT_IN
    from likewise.recipes import RECIPES

    suite = name.removeprefix("suite:")
    if suite in suites.names() and (suite != name or name not in RECIPES):
        print((suites.FOLDER / f"{suite}.yaml").read_text(), end="")
    elif name in RECIPES:
        print(RECIPES[name].yaml(), end="")
    elif name in CARDS:
        print(about(name), end="")
    elif name in BUILT_IN:
        print((BUILT_IN[name] / "card.md").read_text(), end="")
    else:
        known = [*RECIPES, *suites.names(), *CARDS, *BUILT_IN]
        raise UsageError("C01", f"nothing is called «{name}».{near(name, known)} likewise ls has all names.")
    return 0


def schema() -> int:
    """The JSON schema of a recipe file."""
    from likewise.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=1))
    return 0


def doctor(json_: Json = False) -> int:
    """Versions, devices, folders: what to paste when something is wrong. Exit 3 where something is broken."""
    import os
    import shutil

    import torch

    from likewise.cli.terminal import listing, out
    from likewise.encoders import BUILT_IN, load
    from likewise.files import cache_folder
    from likewise.run.protocol import environment

    cache = cache_folder()
    place = next(p for p in (cache, *cache.parents) if p.exists())
    facts: dict[str, Any] = {
        **environment(), "cores": os.cpu_count(), "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "cache": str(cache), "cache writable": os.access(place, os.W_OK), "disk free": f"{shutil.disk_usage(place).free / 1e9:.0f} GB",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "not set"),
    }  # fmt: skip
    broken = []
    for name in BUILT_IN:
        try:
            facts[name] = f"loads, {load(name).spec.weights[:12]}"
        except Exception as error:  # whatever it is, this command is where it should be said
            facts[name] = f"does not load: {error}"
            broken.append(name)
    if json_:
        print(json.dumps(facts))
    else:
        out.print(listing(("what", "value"), [(k, str(v)) for k, v in facts.items()]))
    return 3 if broken else 0


COMMANDS = (plan, report, ls, cat, schema, doctor)
