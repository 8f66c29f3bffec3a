"""The commands that look again at a run: `eval`, `interpolate`, `predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli.data import Data, ImageCol, ImageRoot, Json, LabelCol, open_data, source_options
from likewise.cli.jobs import Device, Workers, machine_for
from likewise.errors import UsageError

if TYPE_CHECKING:
    from likewise.recipe import Machine


def eval_(
    run: Annotated[Path, typer.Argument(help="A run folder.")], data: Data, image_col: ImageCol = "", label_col: LabelCol = "",
    image_root: ImageRoot = "", json_: Json = False, device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """Judge a run's model on any labelled data.

    Of adapt: its answers, under the model's own class table. Of caption: its tower's features, by neighbours, probe and
    centroids; the data's own training pictures vote.
    """
    from likewise.cli.terminal import listing, percent
    from likewise.cli.terminal import out as screen
    from likewise.data.audit import missing
    from likewise.data.sources import SourceOptions
    from likewise.datasets import DATASETS
    from likewise.run.again import evaluate, labelled
    from likewise.run.artifact import Predictor
    from likewise.run.folder import is_captions

    machine = machine_for(device, workers)
    if is_captions(run):
        return _judge(run, data, source_options(image_col, label_col, "", image_root), machine, json_)
    classes = Predictor.load(run).classes
    if data in DATASETS:
        splits = DATASETS[data]().read_report("likewise eval")
    elif not Path(data).exists():
        raise missing(Path(data))
    else:
        splits = labelled(
            Path(data), classes, SourceOptions(image_col=image_col, label_col=label_col, image_root=image_root)
        )
    rows = evaluate(run, splits, machine)
    if json_:
        print(json.dumps({"rows": rows, "out": str(run)}))
        return 0
    metrics = ("accuracy", "macro_recall", "ece")
    table = [[d, *(percent(next(r for r in rows if r["domain"] == d and r["metric"] == m)) for m in metrics),
              str(next(r["n"] for r in rows if r["domain"] == d))] for d in dict.fromkeys(r["domain"] for r in rows)]  # fmt: skip
    screen.print(listing(("data", "accuracy", "macro recall", "ECE", "n"), table))
    return 0


def _judge(run: Path, data: str, source: dict[str, object], machine: Machine, json_: bool) -> int:
    """`eval` of a run on captions: its tower's features on labelled data, whose own training pictures vote."""
    from likewise.cli.terminal import Bars, listing, percent
    from likewise.cli.terminal import out as screen
    from likewise.run.caption_again import judge
    from likewise.run.results import find

    with Bars(quiet=json_) as watch:
        rows = judge(run, open_data(data, [], source, watch), machine, watch)
    if json_:
        print(json.dumps({"rows": rows, "out": str(run)}))
        return 0
    metrics = list(dict.fromkeys(r["metric"] for r in rows))
    lines = [
        [d, *(percent(find(rows, domain=d, metric=m)) for m in metrics)]
        for d in dict.fromkeys(r["domain"] for r in rows)
    ]
    screen.print(listing(("data", *metrics), lines))
    return 0


def interpolate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    alpha: Annotated[str, typer.Option(help="0:1:0.1 (ends included) or 0,0.5,1.")] = "0:1:0.1",
    method: Annotated[str, typer.Option("--method", "--methods", help="Only these methods of the run, names with commas; caption- may be left out.")] = "",
    json_: Json = False, device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """The WiSE path of a run's tuned methods, finely: alpha 0 is the pretrained model, 1 the tuned one."""
    from likewise.cli.terminal import Bars, alphas, listing, percent
    from likewise.cli.terminal import out as screen
    from likewise.run import again, caption_again
    from likewise.run.folder import is_captions
    from likewise.run.results import find
    from likewise.run.vision import CHOOSES

    names = list(dict.fromkeys(part.strip() for part in method.split(",") if part.strip()))
    if method and not names:
        raise UsageError("C01", f"--method {method} names no method. Leave it out for all of the run's.")
    with Bars(quiet=json_) as watch:
        metric = CHOOSES if is_captions(run) else "accuracy"
        along = again.interpolate if metric == "accuracy" else caption_again.interpolate
        found = along(run, alphas(alpha), machine_for(device, workers), watch, names)
    if json_:
        print(json.dumps({**found, "out": str(run)}))
        return 0
    rows = found["rows"]
    domains = list(dict.fromkeys(r["domain"] for r in rows if r["split"] == "report" and r["metric"] == metric))
    recalled = [m for m in ("i2t@1", "t2i@1") if find(rows, metric=m)]  # of pairs that a caption run holds back
    lines = []
    for name, a in dict.fromkeys((r["method"], r["alpha"]) for r in rows):
        want: dict[str, Any] = {"method": name, "alpha": a, "metric": metric}
        cells = [
            percent(find(rows, split="select", **want)),
            *(percent(find(rows, split="report", domain=d, **want)) for d in domains),
        ]
        cells += [percent(find(rows, **{**want, "metric": m})) for m in recalled]
        lines.append([name, f"{a:g}", *cells])
    screen.print(listing(("method", "alpha", "select", *domains, *recalled), lines))
    return 0


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")], images: Annotated[list[Path], typer.Argument(help="Images or folders of images.")],
    topk: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3, json_: Json = False,
) -> int:  # fmt: skip
    """Name what is in pictures, with a run's adapted model."""
    from likewise.cli.terminal import listing
    from likewise.cli.terminal import out as screen
    from likewise.data.decode import SUFFIXES
    from likewise.run.artifact import Predictor

    paths: list[Path] = []
    for given in images:
        if not given.exists():
            raise UsageError("D01", f"{given} not found (looked in {Path.cwd()}).")
        paths += sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES) if given.is_dir() else [given]
    if not paths:
        raise UsageError(
            "D01", f"no images in {', '.join(str(p) for p in images)}. Known endings: {' '.join(sorted(SUFFIXES))}."
        )
    guesses = Predictor.load(run).predict(paths, topk)
    if json_:
        print(json.dumps([g._asdict() for g in guesses]))
        return 0
    rows = [
        [g.path, ", ".join(f"{n} {100 * p:.1f} %" for n, p in zip(g.names, g.probabilities, strict=True))]
        for g in guesses
    ]
    screen.print(listing(("image", "classes"), rows))
    return 0


COMMANDS = (eval_, interpolate, predict)
