"""Sentences derived from the numbers: the verdict, what was traded, how it was chosen, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from likewise.metrics import Estimate
from likewise.report import analysis, words
from likewise.report.analysis import ClassRow, Confusion, Offender
from likewise.report.read import ID, MEAN, SELECT, Predictions, Run

POINT = f"{words.NARROW}points"
MONTHS: tuple[str, ...] = ("January", "February", "March", "April", "May", "June")
MONTHS += ("July", "August", "September", "October", "November", "December")
"""Not the locale's: the page is in English."""
FEW = 10
"""Fewer training pictures than this and a class is worth photographing again."""


def title(run: Run) -> str:
    """`FLYP, α = 0.5`."""
    return ", ".join(part for part in (run.methods[run.chosen].title, words.alpha(run.alpha)) if part)


def traded(run: Run, changes: Mapping[str, Estimate]) -> list[str]:
    """What the chosen model gained, what it lost, and what interpolation did."""
    if run.chosen == run.baseline:
        return ["No method earned its training: the model as it was downloaded is kept, and nothing was traded."]
    lost = [d for d in run.ood if changes[d].high < 0 or (math.isnan(changes[d].high) and changes[d].value < 0)]
    gained = [d for d in run.ood if changes[d].low > 0 or (math.isnan(changes[d].low) and changes[d].value > 0)]
    level = [d for d in run.ood if d not in lost and d not in gained]
    said = []
    if ID in changes and not math.isnan(changes[ID].value):
        verb = "gained" if changes[ID].value >= 0 else "lost"
        doubt = ", which could be chance" if changes[ID].low <= 0 <= changes[ID].high else ""
        said.append(f"In distribution it {verb} {words.pct(abs(changes[ID].value))}{POINT} against {run.base}{doubt}.")
    for found, verb in (
        (gained, "It is better on"),
        (level, "No change can be told from chance on"),
        (lost, "It is worse on"),
    ):
        if found:
            said.append(f"{verb} {words.listed([f'{d} ({words.points(changes[d].value)})' for d in found], 8)}.")
    said += _interpolation(run)
    method = run.methods[run.chosen]
    trained = f"It trained {words.plural(method.trained, 'parameter')}" if method.trained else "It trained nothing"
    said.append(f"{trained} and took {words.seconds(method.seconds)}." if method.seconds >= 0 else f"{trained}.")
    return said


def _interpolation(run: Run) -> list[str]:
    if run.alpha is None or run.alpha in (0.0, 1.0):
        return []
    where = MEAN if len(run.ood) > 1 else "".join(run.ood)
    inside = run.final(run.chosen, ID).value - run.score(run.chosen, 1.0, ID).value
    outside = run.final(run.chosen, where).value - run.score(run.chosen, 1.0, where).value
    if math.isnan(inside) or math.isnan(outside):
        return []
    moves = [f"{'won' if by >= 0 else 'gave up'} {words.pct(abs(by))}" for by in (inside, outside)]
    start = f"Against the same training without interpolation ({words.alpha(1.0)}), {words.alpha(run.alpha)}"
    return [f"{start} {moves[0]}{POINT} in distribution and {moves[1]} out of it."]


def how_chosen(run: Run) -> list[str]:
    """The run's own reason, the rule, and how often the report splits were read."""
    said = [run.why] if run.why else []
    n = run.final(run.chosen, SELECT).n
    over = f" ({words.plural(n, 'picture')})" if n else ""
    said.append(
        f"The rule looks at the select split only{over}: of all candidates within one standard error of the best, "
        "the simplest is taken."
    )
    readings = report_readings(run)
    if len(readings) == 1:
        said.append(f"The report splits were read once, after the choice, on {when(readings[0])}.")
    elif readings:
        said.append(
            f"The report splits were read {len(readings)} times, first on {when(readings[0])}; if a later choice "
            "leaned on an earlier reading, these numbers are too kind."
        )
    return said


def report_readings(run: Run) -> list[Mapping[str, Any]]:
    """Entries of the access log that touched a reported split."""
    held = {*run.domains, "report"}
    return [entry for entry in run.access if held & set(entry.get("splits") or ())]


def when(entry: Mapping[str, Any]) -> str:
    """`3 May 2024, 14:22 UTC` from an ISO time; anything else as it stands."""
    text = str(entry.get("when", "an unknown day"))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = " UTC" if at.utcoffset() == timedelta(0) else ""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}, {at:%H:%M}{zone}"


def next_steps(
    run: Run,
    changes: Mapping[str, Estimate],
    answers: Mapping[str, Predictions],
    rows: Sequence[ClassRow],
    mistakes: tuple[Sequence[Confusion], Sequence[Offender]],
) -> list[tuple[str, str]]:
    """(what to do, why) in the order in which it is likely to help."""
    steps = [*_about_shift(run, changes), *_about_confidence(answers), *_about_classes(run, rows)]
    pairs, doubtful = mistakes
    sure = [o for o in doubtful if o.p_answer > 0.9]
    if sure:
        pictures = words.plural(len(sure), "picture")
        steps.append(
            ("Check labels.", f"On {pictures} of the select split the model is over 90 % sure of another class.")
        )
    often = [c for c in pairs if c.n >= 5 and c.n / c.of >= 0.25]
    if often:
        named = words.listed([f"{run.names[c.true]} as {run.names[c.read]} ({c.n} of {c.of})" for c in often], 3)
        steps.append(("Look at the confused pairs.", f"Often read wrongly: {named}. Merge, rename or add pictures."))
    if len(report_readings(run)) > 1:
        steps.append(
            ("Set fresh pictures aside.", "The report splits were read more than once; a new set is the fair judge.")
        )
    return steps or [
        (
            "Use it.",
            "Nothing here asks for work: `likewise predict` takes this folder; its `model/` is an open_clip folder.",
        )
    ]


def _about_shift(run: Run, changes: Mapping[str, Estimate]) -> list[tuple[str, str]]:
    steps = []
    if not run.ood:
        why = "Nothing here says how the model fares elsewhere. Name a folder: --ood NAME=FOLDER."
        steps.append(("Bring pictures from another place, day or camera.", why))
    lost = [d for d in run.ood if changes[d].high < 0]
    if lost and run.alpha is not None and run.alpha > 0:
        why = f"Plain {run.base} is better on {words.listed(lost)}. A smaller α keeps more of it: likewise interpolate."
        steps.append((f"Interpolate further towards {run.base} if those pictures matter.", why))
    elif lost:
        steps.append(
            (
                "Mind where you use it.",
                f"Plain {run.base} is better on {words.listed(lost)}; this method has no α path.",
            )
        )
    if run.chosen == run.baseline:
        steps.append(("Add training pictures.", "With what there is, training did not beat the model as it was."))
    wide = [d for d in run.domains if run.final(run.chosen, d).high - run.final(run.chosen, d).low > 0.15]
    if wide:
        named = words.listed([f"{d} ({run.final(run.chosen, d).n})" for d in wide])
        steps.append(
            ("Report on more pictures.", f"The interval spans over 15 points on {named}; differences there are soft.")
        )
    return steps


def _about_confidence(answers: Mapping[str, Predictions]) -> list[tuple[str, str]]:
    gaps = {domain: analysis.overconfidence(p) for domain, p in answers.items()}
    over = {d: g for d, g in gaps.items() if abs(g) > 0.08}
    if not over:
        return []
    worst = max(over, key=lambda d: abs(over[d]))
    side = "over" if over[worst] > 0 else "under"
    why = f"Its confidence is off by more than 8 points on {words.listed(list(over))}; worst on {worst}, where it is "
    why += f"{words.pct(abs(over[worst]))} points {side}confident. Fit a temperature before you read its probabilities."
    return [("Calibrate.", why)]


def _about_classes(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, str]]:
    steps = []
    few = [row for row in rows if row.train < FEW] if any(row.train for row in rows) else []
    weak = [row for row in few if row.recall < 0.5]
    if weak:
        named = words.listed([f"{run.names[row.label]} ({row.train})" for row in weak])
        steps.append(
            ("Collect pictures of weak classes.", f"Fewer than {FEW} to train on and under half found: {named}.")
        )
    never = [row for row in rows if row.recall == 0 and row.id_n + row.ood_n >= 3 and row not in weak]
    if never:
        named = words.listed([run.names[row.label] for row in never])
        steps.append(
            ("Read the class names again.", f"Never recognised: {named}. The words may mean something else to CLIP.")
        )
    return steps
