"""Each job as one call: what `likewise adapt`, once or as a few-shot sweep, and `likewise caption` do, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from likewise.data.captions import Pairs
from likewise.data.records import Dataset, Split
from likewise.encoder import Encoder
from likewise.errors import UsageError, near
from likewise.recipe import Experiment, Machine, Recipe
from likewise.recipes import LADDERS, RECIPES, for_captions, get
from likewise.recommend import Priority, recommend
from likewise.report import write_report
from likewise.run.adapt import BASELINE, Run, Settings
from likewise.run.adapt import adapt as run_adapt
from likewise.run.caption import ALPHAS
from likewise.run.caption import caption as run_caption
from likewise.run.planning import check_replays
from likewise.run.sweep import Plan, Sweep
from likewise.run.sweep import sweep as run_sweep
from likewise.run.watch import Watch


def next_folder(name: str, base: Path = Path("runs")) -> Path:
    """`runs/name-01`, or the first number that is free."""
    number = 1
    while (base / f"{name}-{number:02d}").exists():
        number += 1
    return base / f"{name}-{number:02d}"


def last_folder(name: str, base: Path = Path("runs")) -> Path:
    """The newest `runs/name-NN`. Raises `UsageError` where there is none to resume."""
    found = sorted(base.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError("R01", f"there is no {base}/{name}-NN to resume. Say which folder with -o.")
    return found[-1]


def ladder(methods: str | Mapping[str, Recipe] | Recipe | None, effort: str, rate_scale: float) -> dict[str, Recipe]:
    """Recipes by name, from `"ln,flyp"`, a recipe, a table of them, or an effort. Raises `UsageError` (unknown).

    Named recipes, also as values, come at the encoder's rates; values of your own stay as they are.
    """
    if isinstance(methods, Recipe):
        methods = {methods.title or "recipe": methods}
    if isinstance(methods, Mapping):
        known = {name: next((n for n, r in RECIPES.items() if r == value), None) for name, value in methods.items()}
        return {n if n else name: get(n, rate_scale) if n else methods[name] for name, n in known.items()}
    if methods:
        names = list(dict.fromkeys(part.strip() for part in methods.split(",") if part.strip()))
        if not names:
            raise UsageError("C01", f"--methods {methods} names no method. Methods: {', '.join(RECIPES)}.")
    elif effort in LADDERS:
        names = list(LADDERS[effort])
    else:
        raise UsageError("C01", f"no effort «{effort}».{near(effort, LADDERS)} Efforts: {', '.join(LADDERS)}.")
    return {name: get(name, rate_scale) for name in names}


AUTO = "auto"
"""The recipe that `likewise.recommend` names for the data."""


def advised(
    encoder: Encoder, data: Dataset, out: Path, *, priority: Priority = "balanced", machine: Machine | None = None,
    **settings: Any,
) -> tuple[dict[str, Recipe], dict[str, Any]]:  # fmt: skip
    """The recommended recipe by name, and the recommendation as plain data; of a run to be resumed the recipe that it
    had, and nothing. `settings` and errors as `adapt`'s and `recommend`'s.
    """
    if settings.get("resume") and (out / "config.yaml").is_file():
        had = Experiment.read(out / "config.yaml").recipes
        return {name: recipe for name, recipe in had.items() if name != BASELINE or len(had) == 1}, {}
    given = Settings.parse(settings, "settings")
    if given.shots or given.shot_index:
        data = data.few(given.shots, given.seed, given.allow_short, given.shot_index)
    found = recommend(encoder, data, priority=priority, time_limit=given.time_limit, machine=machine, seed=given.seed)
    return {found.method: found.recipe}, found.tree()


def adapt(
    encoder: Encoder,
    data: Dataset,
    recipe: str | Recipe | Mapping[str, Recipe] | None = None,
    out: Path | str | None = None,
    *,
    machine: Machine | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Run:
    """Train the recipes (by default the standard ladder), choose on select, read report splits once, write a report.

    `settings` are `Settings` fields (seed, shots, alphas, time_limit, resume, overwrite) and `effort`; with the recipe
    "auto", which is the one that `likewise.recommend` names, `priority` too. Raises `LikewiseError` as documented in
    `likewise.run.adapt.adapt` and `likewise.recommend.recommend`.
    """
    folder = Path(out) if out is not None else next_folder(Path(data.name).stem)
    if recipe == AUTO:
        recipes, settings["advice"] = advised(encoder, data, folder, machine=machine, **settings)
        settings.pop("priority", None)
    else:
        recipes = ladder(recipe, settings.pop("effort", "standard"), encoder.rate_scale)
    run = run_adapt(
        encoder, data, recipes, folder, settings=Settings.parse(settings, "settings"), machine=machine, watch=watch
    )
    write_report([run.path], run.path / "report.html")
    return run


def sweep(
    encoder: Encoder,
    data: Dataset,
    recipe: str | Recipe | Mapping[str, Recipe] | None = None,
    out: Path | str | None = None,
    *,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (0, 1, 2),
    **rest: Any,
) -> Sweep:
    """`adapt` at every shot count (0: all pictures) and seed, each in a run folder of its own; curves and their report.

    `rest` is what `adapt` takes beside these, but for `seed`. Raises U06 for counts that cannot be, D08 where a class
    has too few pictures, before anything is trained, and `LikewiseError` as `adapt` does.
    """
    if "seed" in rest:
        raise UsageError("U06", "seed and seeds are both given. Give seeds alone: a sweep runs each of them.")
    machine, watch = rest.pop("machine", None), rest.pop("watch", None)
    recipes = ladder(recipe, rest.pop("effort", "standard"), encoder.rate_scale)
    folder = Path(out) if out is not None else next_folder(Path(data.name).stem)
    plan = Plan.parse({"shots": tuple(shots), "seeds": tuple(seeds), "each": rest}, "settings")
    for run in run_sweep(encoder, data, recipes, folder, plan, machine, watch):
        if not (run.path / "report.html").exists():
            write_report([run.path], run.path / "report.html")
    write_report([folder], folder / "report.html")
    return Sweep.load(folder)


def caption(
    encoder: Encoder,
    pairs: Pairs,
    recipe: str | Recipe | Mapping[str, Recipe],
    judges: Dataset | Sequence[Dataset],
    out: Path | str | None = None,
    *,
    replayed: Split | None = None,
    **settings: Any,
) -> Run:
    """Tune an image tower on pictures with captions, choose alpha by its neighbours, judge it once, write a report.

    `encoder` has both towers: a CLIP, or `encoders.pair.Pair` of two. `recipe` names `caption-*` recipes or holds
    values; `judges` are labelled data, the first of which chooses. `settings` are `Settings` fields (seed, alphas,
    time_limit, resume, overwrite), `machine` and `watch`. Raises `LikewiseError` as documented in
    `likewise.run.caption.caption`.
    """
    machine, watch = settings.pop("machine", None) or Machine(), settings.pop("watch", None) or Watch()
    if isinstance(recipe, str):
        names = [part.strip() for part in recipe.split(",") if part.strip()]
        recipe = dict(for_captions(name, encoder.rate_scale, encoder.new) for name in names)
    elif isinstance(recipe, Recipe):
        recipe = {recipe.title or "recipe": recipe}
    if replayed is not None:
        check_replays(recipe)
    data = [judges] if isinstance(judges, Dataset) else list(judges)
    folder = Path(out) if out is not None else next_folder(pairs.name)
    how = Settings.parse({"alphas": ALPHAS, **settings}, "settings"), machine, watch
    run = run_caption(encoder, pairs, recipe, data, folder, replayed=replayed, how=how)
    write_report([run.path], run.path / "report.html")
    return run
