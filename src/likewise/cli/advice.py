"""`regime` and `recommend`: where data lies and what follows from it, before anything is trained."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.data import Classes, Data, Json, Seed, ShotIndex, Templates, open_data, source_options
from likewise.cli.jobs import AllowShort, Device, EncoderName, Limit, PriorityOption, Workers, machine_for, priority_of

if TYPE_CHECKING:
    from likewise.recommend import Recommendation, Regime

Reference = Annotated[
    str, typer.Option(help="Data whose training pictures stand for the encoder's pretraining (ours carry their own).")
]


def regime(
    data: Data, encoder: EncoderName = "icon-clip", reference: Reference = "", classes: Classes = "", templates: Templates = "",
    seed: Seed = 0, json_: Json = False, device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """How much data there is and how far it is from the pretraining: the plane on which methods differ."""
    from likewise import encoders
    from likewise.cli.terminal import Bars
    from likewise.cli.terminal import out as screen
    from likewise.predict import features
    from likewise.recommend import regime as place
    from likewise.run.device import on

    machine = machine_for(device, workers)
    with Bars(quiet=json_) as watch:
        model = on(encoders.load(encoder), machine)
        opened = open_data(
            data, [], source_options(classes=classes, templates=templates, rest=("1%", "skip", seed)), watch
        )
        own = encoders.reference(encoder)
        if reference:
            other = open_data(reference, [], source_options(rest=("1%", "skip", seed)), watch)
            own = features(model, other.train, "pooled", workers=machine.workers)
        found = place(model, opened, own, workers=machine.workers)
    if json_:
        print(json.dumps(found.tree()))
    else:
        screen.print(told(found, encoder), markup=False, soft_wrap=True)
    return 0


def told(found: Regime, encoder: str) -> str:
    """The regime in words: the numbers, then what they mean by Kim et al.'s thresholds and by ours."""
    from likewise.recommend.regime import FAR, KIM_HIGH, KIM_LOW, KIM_SIMILAR, MIDDLE

    lines = [
        f"amount      {found.per_class:g} training pictures a class (median of {found.classes} classes, {found.pictures:,} in all)"
    ]
    if found.zero_shot is not None:
        e = found.zero_shot
        lines.append(f"similarity  {100 * e.value:.1f} % zero-shot ({100 * e.low:.1f}-{100 * e.high:.1f}, n {e.n}, select split), "
                     f"{100 * (found.above_chance or 0):.1f} % of the way from chance to all right")  # fmt: skip
        if found.doubt:
            lines.append(f"            {found.doubt}")
    else:
        lines.append(f"similarity  {encoder} has no text tower, so no zero-shot accuracy")
    if found.distance is not None:
        lines.append(
            f"distance    {found.distance:.2f} times as far from the pretraining's pictures as these are from each other (no labels asked)"
        )
    else:
        lines.append("distance    no pictures stand for the pretraining of this encoder: --reference DATA names some")
    kim = found.kim_amount or f"between ({KIM_LOW} to {KIM_HIGH} a class)"
    lines.append(
        f"Kim et al.  {kim}, {found.kim_likeness or 'similarity unknown'} (few up to {KIM_LOW} a class, many from {KIM_HIGH}; similar from {100 * KIM_SIMILAR:.0f} % zero-shot)"
    )
    lines.append(f"ours        {found.amount}, {found.likeness or 'similarity unknown'} (many from {MIDDLE} a class; similar from {100 * KIM_SIMILAR:.0f} % above chance, "
                 f"without text below {FAR:g} times as far)")  # fmt: skip
    return "\n".join(lines)


def recommend(
    data: Data, encoder: EncoderName = "icon-clip", priority: PriorityOption = "balanced", time_limit: Limit = "",
    shots: Annotated[int, typer.Option(help="Training pictures a class, as you will adapt with; 0: all.")] = 0,
    shot_index: ShotIndex = "", allow_short: AllowShort = False, classes: Classes = "", templates: Templates = "", seed: Seed = 0, json_: Json = False,
    device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """Which recipe for this data, how long it takes here, and why."""
    from likewise import encoders
    from likewise.cli.terminal import Bars, seconds
    from likewise.cli.terminal import out as screen
    from likewise.recommend import recommend as find
    from likewise.run.device import on

    aim, limit = priority_of(priority), seconds(time_limit) if time_limit else 0.0
    machine = machine_for(device, workers)
    with Bars(quiet=json_) as watch:
        model = on(encoders.load(encoder), machine)
        source = source_options(classes=classes, templates=templates, rest=("1%", "skip", seed))
        opened = open_data(data, [], source, watch)
        opened = opened.few(shots, seed, allow_short, shot_index) if shots or shot_index else opened
        found = find(model, opened, priority=aim, time_limit=limit, machine=machine, seed=seed)
    if json_:
        print(json.dumps(found.tree()))
    else:
        same = {"--encoder": encoder, "--shots": str(shots), "--shot-index": shot_index, "--seed": str(seed),
                "--classes": classes, "--templates": templates}  # fmt: skip
        usual = {"--encoder": "icon-clip", "--shots": "0", "--seed": "0"}
        again = [part for name, value in same.items() if value != usual.get(name, "") for part in (name, value)]
        again += ["--allow-short"] if allow_short else []
        screen.print(advised(found, data, again), markup=False, soft_wrap=True)
    return 0


def advised(found: Recommendation, data: str, again: list[str]) -> str:
    """The recommendation in words: what, at what cost, why, and the commands that follow it or test it."""
    from likewise.report.words import seconds

    cost = found.cost
    steps = f" ({cost.steps:,} steps of {max(cost.step):.2f} s)" if cost.step else ""
    lines = [
        f"recipe   {found.method}: {found.recipe.title}, {found.trains:,} numbers train",
        f"cost     about {seconds(cost.seconds)} here: {seconds(cost.training)} to train{steps}, {seconds(cost.judging)} to "
        "judge; measured on three batches",
        "why",
        *(f"  - {reason}" for reason in found.reasons),
        f"do it    {shlex.join(['likewise', 'train', found.method, data, *found.edits, *again])}",
    ]
    rivals = [name for name in found.ranking.order if name != "zero-shot"][:4]
    lines.append(f"compare  {shlex.join(['likewise', 'adapt', data, '--methods', ','.join(rivals), *again])}")
    return "\n".join(lines)


COMMANDS = (regime, recommend)
