"""Fill the generated parts of docs/methods/*.md: tables and departures, read off the recipes and the docstrings.

    python tools/update_methods.py            # renew what changed
    python tools/update_methods.py --check    # write nothing; exit 1 where a page is stale

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. Counts are of the architectures, so nothing is downloaded.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

import typer

from likewise import recipes as home
from likewise.adapters import Adapter, AdapterConfig
from likewise.config import Config
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.encoders.pair import Pair
from likewise.encoders.samples import NAMES as LIBRARIES
from likewise.encoders.samples import sample
from likewise.errors import ConfigError
from likewise.heads import HeadConfig, Keep, Linear, Neighbours, Own, Text, Tip
from likewise.losses import Contrastive, Sigmoid
from likewise.merging import Soup, Wise
from likewise.names import Plan
from likewise.recipe import Descent, Lbfgs, Majorize, Recipe, Sgd, Stage
from likewise.recipes import AS_PUBLISHED, FAMILIES, RECIPES
from likewise.run.planning import plans, steps, trained
from likewise.run.support import support

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "methods"
COUNTED = {"ViT-B/16": "open_clip:ViT-B-16", "icon-clip": "icon-clip"}
DINO = "DINO ViT-B/16"
"""Beside it stands the text tower of CLIP ViT-B/16."""
CLASSES, SHOTS = 10, 16
PICTURES = CLASSES * SHOTS


class Notes:
    """Reasons too long for a cell: a letter in the cell, the reason below the table, equal ones once."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, text: str) -> str:
        """`yes` as it is; of `no: why` a `no` with the letter of its reason."""
        word, colon, why = text.partition(": ")
        if not colon:
            return word
        why = re.split(r"(?<=\.) ", why)[0].rstrip(".")
        if why not in self.reasons:
            self.reasons.append(why)
        return f"{word} ({letters(self.reasons.index(why))})"

    def text(self) -> str:
        return "".join(f"- ({letters(i)}) {why}.\n" for i, why in enumerate(self.reasons))


def letters(number: int) -> str:
    """a to z, then aa, ab."""
    first, last = divmod(number, 26)
    return (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + last)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers stand to the right."""
    plain = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    sides = [
        "---:" if all(re.fullmatch(r"[\d,]+|no \(\w+\)", row[i]) for row in plain) else "---" for i in range(len(head))
    ]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in [head, sides, *plain])


def linked(paper: str) -> str:
    """The citation with its arXiv number as a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def rate(value: float) -> str:
    """As the papers write rates: 1e-5, 2.5e-3, 0.01."""
    if value == 0 or value >= 0.01:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e-")
    return f"{float(digits):g}e-{int(power)}"


def patterns(recipe: Recipe) -> str:
    """What each stage trains, with where its adapters stand."""
    parts = []
    for stage in recipe.stages:
        names = []
        for name in stage.trains:
            kinds = " and ".join(_standing(adapter) for adapter in stage.adapters)
            names.append(f"`adapters`: {kinds}" if name == "adapters" else f"`{name}`")
        parts.append(", ".join(names) or "nothing")
    return "; then ".join(parts)


def _standing(adapter: AdapterConfig) -> str:
    return adapter.kind + (" at " + ", ".join(f"`{p}`" for p in adapter.places) if adapter.places else "")


def what(name: str) -> list[str]:
    """The cells that need no encoder: name, title, what trains."""
    return [f"`{name}`", RECIPES[name].title, patterns(RECIPES[name])]


def fitted(stage: Stage) -> str:
    """How a stage is fitted, in few words."""
    fit = stage.fit
    if fit is None:
        return "nothing to fit"
    if isinstance(fit, Lbfgs):
        return f"L-BFGS at {len(fit.path)} penalties"
    if isinstance(fit, Majorize):
        return f"LP++'s solver, {fit.epochs} epochs"
    length = f"{fit.per_shot} steps a shot" if fit.per_shot else f"{fit.epochs} epochs"
    drawn = ", pairs" if fit.sampling == "pairs" else ""
    kind = "SGD" if isinstance(fit, Sgd) else "AdamW"
    return f"{kind} {rate(fit.lr)}, decay {rate(fit.decay)}, {length} of {fit.batch}{drawn}"


def image_work(stage: Stage, plan: Plan) -> str:
    """What the image tower does while this stage trains."""
    if stage.fit is None:
        return "once" if isinstance(stage.head, Neighbours | Tip) else "not asked"
    if not isinstance(stage.fit, Descent) or stage.fit.sampling == "features":
        return "once"
    return "forward" if plan.image_constant else "forward and backward"


def text_work(stage: Stage, plan: Plan) -> str:
    """What the text tower does while this stage trains."""
    head = stage.head
    if isinstance(head, HeadConfig) and head.live_text:
        return "each picture with each class, forward and backward"
    if isinstance(head, Text) and stage.fit is not None:
        if isinstance(stage.loss, Contrastive | Sigmoid):
            if plan.text_constant:
                return "once"
            return "the batch's captions, forward and backward"
        return "once" if plan.text_constant else "all classes, forward and backward"
    if isinstance(head, Keep | Neighbours) or (isinstance(head, Linear) and head.start == "zeros"):
        return "not asked"
    return "once"


def family_tables(family: str, counted: Mapping[str, Encoder], libraries: Mapping[str, Encoder]) -> str:
    """The three tables of a page, and the reasons behind their letters."""
    notes = Notes()
    trains, can, costs = [], [], []
    for name, recipe in FAMILIES[family].items():
        trains.append([*what(name), *(_number(recipe, e, notes) for e in counted.values()), linked(recipe.paper)])
        row: dict[str, Any] = support(recipe, libraries)
        keys = (*libraries, "folds", "path", "soup", "text")
        can.append([f"`{name}`", *(notes.mark(row[key]) for key in keys)])
        found = plans(recipe, next(iter(counted.values())), CLASSES, PICTURES)
        both = list(zip(recipe.stages, found, strict=True))
        costs.append([
            f"`{name}`", "; then ".join(fitted(s) for s in recipe.stages), f"{steps(recipe, PICTURES, CLASSES):,}",
            "; then ".join(image_work(s, p) for s, p in both), "; then ".join(text_work(s, p) for s, p in both),
        ])  # fmt: skip
    return (
        f"Numbers that train, for {CLASSES} classes and {PICTURES} pictures where these count:\n\n"
        + table(("name", "title", "trains", *counted, "paper"), trains)
        + "\nWhere it can be used, and what can be done with the outcome ([the words](README.md#the-words-of-the-tables)):\n\n"
        + table(("name", *libraries, "folds", "path", "soup", "text"), can)
        + (f"\n{notes.text()}" if notes.reasons else "")
        + f"\nWhat training costs; steps are for {CLASSES} classes of {SHOTS} pictures ([the words](README.md#what-training-costs)):\n\n"
        + table(("name", "fit", "steps", "image tower", "text tower"), costs)
    )


def _number(recipe: Recipe, encoder: Encoder, notes: Notes) -> str:
    try:
        return f"{sum(trained(recipe, plans(recipe, encoder, CLASSES, PICTURES)).values()):,}"
    except ConfigError as error:
        return notes.mark(f"no: {error}")


def index() -> str:
    """The families with their recipes."""
    rows = [[f"[{family}]({family}.md)", ", ".join(f"`{name}`" for name in held)] for family, held in FAMILIES.items()]
    return table(("family", "recipes"), rows)


def alphas() -> str:
    """What alpha does to each adapter and each head."""
    rows = []
    for kind in get_args(get_args(Adapter)[0]):
        if kind.scales is None:
            rows.append([f"`{kind.__name__}`", "no path", f"{kind.refuses}"])
        else:
            means = "; their means are means of what is added, so soups are possible" if kind.linear else ""
            rows.append(
                [
                    f"`{kind.__name__}`",
                    ", ".join(f"`{s.removeprefix('.')}`" for s in kind.scales),
                    f"added part times alpha{means}",
                ]
            )
    heads = []
    for head in get_args(get_args(Own)[0]):
        if head is Linear:
            heads.append(["`Linear`", "on shared features", f"else: {head.refuses}"])
        else:
            heads.append([f"`{head.__name__}`", "yes" if head.path else "no path", head.refuses])
    return (
        table(("adapter", "alpha multiplies", ""), rows)
        + "\n"
        + table(("head", "path to the text head", "why not"), heads)
    )


def parts_of(value: Any) -> Iterator[Config]:
    """The configurations in a value, itself among them; of a merge, LiNeS only where it is used."""
    if isinstance(value, tuple):
        for item in value:
            yield from parts_of(item)
    elif isinstance(value, Config):
        if not (isinstance(value, Wise) and value.first == 1):
            yield value
        for name in type(value).model_fields:
            yield from parts_of(getattr(value, name))


def departed(thing: Any) -> str:
    """The `Departs:` paragraph of a docstring, on one line; "" where there is none."""
    found = re.search(r"Departs: (.*?)(?=\n\s*\n|\Z)", inspect.getdoc(thing) or "", re.DOTALL)
    return re.sub(r"\s+", " ", found[1]).strip() if found else ""


def departures(family: str) -> str:
    """Every departure that a family's page must tell: of its recipes' file, and of each part that they are made of."""
    own_rates = {"ln", "ft"} & set(FAMILIES[family])  # of which the recipes' common docstring tells
    things: dict[str, tuple[Any, ModuleType]] = {"recipes": (home, home)} if own_rates else {}
    module = sys.modules[f"likewise.recipes.{family}"]
    things[f"recipes, {family}"] = (module, module)
    kinds = dict.fromkeys(type(part) for recipe in FAMILIES[family].values() for part in parts_of(recipe))
    for kind in kinds:
        module = sys.modules[kind.__module__]
        own = [kind] if kind in (Wise, Soup) else [kind, *_others(module)]
        things |= {thing.__name__: (thing, module) for thing in own}
    lines = []
    for name, (thing, module) in things.items():
        if said := departed(thing):
            path = f"src/{module.__name__.replace('.', '/')}" + (
                "/__init__.py" if hasattr(module, "__path__") else ".py"
            )
            start = said[0] if said[1] == " " else said[0].upper()  # a variable stays as it is
            lines.append(f"- **{name}** ([code](../../{path})): {start}{said[1:]}\n")
    return "".join(lines)


def _others(module: ModuleType) -> list[Any]:
    """Public functions of a module of adapters or heads: a solver may depart too."""
    if not module.__name__.startswith(("likewise.adapters.", "likewise.heads.")):
        return []
    functions = [thing for _, thing in inspect.getmembers(module, inspect.isfunction)]
    return [f for f in functions if f.__module__ == module.__name__ and not f.__name__.startswith("_")]


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The page with its parts. Raises where a part has no markers."""
    for name, part in parts.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not begin or not end:
            raise SystemExit(f"a page has no place for «{name}»: write <!-- {name} --> and <!-- /{name} --> in it")
        text = f"{before}{begin}{part}{end}{after}"
    return text


def renewed() -> Iterator[tuple[Path, str]]:
    """Each page with what it should say."""
    counted = {title: load(name, weights=False) for title, name in COUNTED.items()}
    dino = {DINO: Pair(load("timm:vit_base_patch16_224", weights=False), load(COUNTED["ViT-B/16"], weights=False))}
    libraries = {library: sample(library) for library in LIBRARIES}
    for family in FAMILIES:
        page = PAGES / f"{family}.md"
        parts = {
            "table": family_tables(family, dino if family == "captions" else counted, libraries),
            "departs": departures(family),
        }
        yield page, filled(page.read_text(), parts)
    page = PAGES / "README.md"
    names = ", ".join(f"`{name}`" for name in AS_PUBLISHED)
    fixed = textwrap.fill(names, 118, break_on_hyphens=False)
    yield page, filled(page.read_text(), {"table": index(), "alpha": alphas(), "fixed": f"{fixed}\n"})


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a page is stale.")] = False,
) -> None:
    """Renew docs/methods/*.md."""
    stale = [(page, text) for page, text in renewed() if page.read_text() != text]
    for page, text in stale:
        if not check:
            page.write_text(text)
        typer.echo(f"{'stale' if check else 'renewed'} {page.relative_to(ROOT)}")
    if check and stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
