"""From runs to the page: gathers what each section shows and fills the template."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from likewise.metrics import mean_of
from likewise.report import advice, analysis, charts, panels, pictures, svg, tables, words
from likewise.report.analysis import Confusion, Offender
from likewise.report.pictures import Album
from likewise.report.read import ID, MEAN, SELECT, Predictions, Run

WORST = 12
"""Classes shown before the fold."""
MOST = 300
"""Classes shown at all."""
LEVELS = (("errors", "error"), ("warnings", "warning"), ("notices", "note"))


@dataclass(frozen=True)
class Picture:
    """A picture and the words under it; `uri` is None when it could not be opened."""

    uri: str | None
    alt: str
    top: str = ""
    bottom: str = ""


HERE = Path(__file__).parent


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(words=words, ID=ID, MEAN=MEAN, WORST=WORST)
    return environment


def filled(template: str, **content: Any) -> str:
    """A template of this folder as a page, in the shared style."""
    style = Markup((HERE / "report.css").read_text())
    return _templates().get_template(template).render(style=style, **content)


def render(runs: Sequence[Run]) -> str:
    """The whole page as HTML. The first run is told in full, the others without pictures."""
    sections = [section(run, i, full=i == 0) for i, run in enumerate(runs)]
    shared = [d for d in runs[0].domains if all(d in run.domains for run in runs)]
    out = [d for d in shared if d != ID]
    for content, run in zip(sections, runs, strict=True):
        content["compared"] = [run.final(run.chosen, d) for d in shared]
        if len(out) > 1:  # a mean over other domains would be another quantity
            numbers = [run.final(run.chosen, d) for d in out]
            content["compared"].append(mean_of(numbers, [d in run.changed for d in out]))
    shared += [f"mean of these {len(out)} OOD"] * (len(out) > 1)
    return filled("report.html.j2", sections=sections, compared=shared)


def section(run: Run, number: int, full: bool) -> dict[str, Any]:
    """What the template needs of one run."""
    colours = svg.slots(run.methods)
    album = Album.of(run)
    answers = analysis.reported(run) if run.names else {}
    changes = {d: analysis.change(run, d) for d in (*run.domains, *([MEAN] if len(run.ood) > 1 else []))}
    rows = analysis.class_rows(run, answers)
    pairs, doubtful = analysis.confusions(answers), analysis.offenders(run) if run.names else []
    limits = charts.dumbbell_range(run)
    context: dict[str, Any] = {
        "run": run,
        "id": f"run{number}",
        "full": full,
        "title": advice.title(run),
        "changes": changes,
        "dumbbells": {d: Markup(charts.dumbbell(run, d, limits)) for d in changes},
        "dumbbell_axis": Markup(charts.dumbbell_axis(limits)),
        "traded": advice.traded(run, changes),
        "how": advice.how_chosen(run),
        "table": tables.comparison(run),
        "colours": colours,
        "scatter": Markup(charts.scatter(run, colours)),
        "scatter_narrow": Markup(charts.scatter(run, colours, (440, 460))),
        "alphas": [(d, n, Markup(drawing)) for d, n, drawing in charts.alpha_panels(run, colours)],
        "reliability": _reliability(answers),
        "losses": _losses(run, colours),
        "classes": rows[:MOST],
        "more_classes": max(0, len(rows) - MOST),
        "audit": _audit(run),
        "reproduce": _reproduce(run),
        "steps": advice.next_steps(run, changes, answers, rows, (pairs, doubtful)),
        "pairs": [],
        "doubtful": [],
        "sheet": ([], []),
    }
    if full:
        context["pairs"] = [_pair(run, album, pair) for pair in pairs]
        context["doubtful"] = [_offender(run, album, o) for o in doubtful]
        context["sheet"] = pictures.contact_sheet(album)
    context["missing"], context["disagreeing"] = album.missing, album.disagreeing
    return context


def _reliability(answers: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    out = []
    groups = {"In distribution": [p for d, p in answers.items() if d == ID]}
    groups["Out of distribution, pooled"] = [p for d, p in answers.items() if d != ID]
    for title, parts in groups.items():
        both = analysis.joined(parts)
        if both is not None:
            gap = analysis.overconfidence(both)
            drawing = Markup(panels.reliability(both, title.lower()))
            n, error = len(both.labels), panels.calibration_error(both)
            out.append({"title": title, "drawing": drawing, "n": n, "ece": error, "gap": gap})
    return out


def _losses(run: Run, colours: Mapping[str, int]) -> list[tuple[str, list[str], Markup]]:
    """(title, stages, drawing) of each method that kept a journal."""
    out = []
    for name, method in run.methods.items():
        journal = run.journal(name)
        drawing = panels.loss_curve(journal, method.title, colours[name]) if journal else ""
        if drawing:
            stages = list(dict.fromkeys(str(line.get("stage", "")) for line in journal))
            out.append((method.title, stages, Markup(drawing)))
    return out


def _pair(run: Run, album: Album, pair: Confusion, n: int = 4) -> dict[str, Any]:
    true, read = run.names[pair.true], run.names[pair.read]
    shown = []
    for domain, index in pair.where[:n]:
        shown.append(Picture(album.thumb(domain, index), f"a {true} from {domain}, read as {read}", bottom=domain))
    example = None
    folder = run.folders[pair.read]
    for index in range(len(album.rows.get("train", ()))):
        if album.label("train", index) in (folder, read):
            example = Picture(album.thumb("train", index), f"a {read} to train on", bottom="train")
            break
    return {"true": true, "read": read, "n": pair.n, "of": pair.of, "pictures": shown, "example": example}


def _offender(run: Run, album: Album, o: Offender) -> Picture:
    true, read = run.names[o.label], run.names[o.answer]
    own = f"{100 * o.p_label:.1f}" if o.p_label >= 5e-4 else "<0.1"
    return Picture(
        album.thumb(SELECT, o.index, 64),
        f"labelled {true}, read as {read}",
        top=f"{true} → {read}",
        bottom=f"{100 * o.p_answer:.0f}{words.NARROW}% sure, label {own}{words.NARROW}%",
    )


def _audit(run: Run) -> dict[str, Any]:
    """Findings as (level, code, message), and per split how many classes and pictures it holds."""
    found = []
    for key, level in LEVELS:
        for entry in run.audit.get(key) or ():
            entry = entry if isinstance(entry, dict) else {"message": str(entry)}
            found.append((level, str(entry.get("code") or ""), str(entry.get("message") or "")))
    counts = []
    for split, by_class in (run.audit.get("counts") or {}).items():
        held = sorted(n for n in by_class.values() if n)
        if held:
            middle = held[len(held) // 2] if len(held) % 2 else sum(held[len(held) // 2 - 1 : len(held) // 2 + 1]) / 2
            empty = len(by_class) - len(held)
            counts.append((split, sum(held), len(held), empty, held[0], f"{middle:g}", held[-1]))
    return {"found": found, "counts": counts}


def _reproduce(run: Run) -> dict[str, Any]:
    plain = {key: value for key, value in run.environment.items() if not isinstance(value, dict | list)}
    nested = {key: json.dumps(value) for key, value in run.environment.items() if isinstance(value, dict | list)}
    access = []
    for entry in run.access:
        splits = words.listed([str(split) for split in entry.get("splits") or ()], 12)
        access.append((advice.when(entry), str(entry.get("why") or ""), splits))
    return {"environment": {**plain, **nested}, "access": access, "command": run.command, "config": run.config_text}


def summary(run: Run) -> str:
    """`report.md` of one run: the verdict and the table."""
    lines = [f"# {run.name}: {advice.title(run)}", ""]
    for domain in (*run.domains, *([MEAN] if len(run.ood) > 1 else [])):
        now, change = run.final(run.chosen, domain), analysis.change(run, domain)
        if math.isnan(now.value):
            continue
        name = {ID: "in distribution", MEAN: "OOD mean"}.get(domain, domain)
        span = f" ({words.span(now)})" if words.span(now) else ""
        moved = "" if run.chosen == run.baseline else f", {words.points(change.value)} points against {run.base}"
        lines.append(f"- {name}: {words.pct(now.value)} %{span}{moved}; {words.plural(now.n, 'picture')}")
    changes = {d: analysis.change(run, d) for d in run.domains}
    lines += ["", " ".join(advice.traded(run, changes)), "", " ".join(advice.how_chosen(run)), ""]
    return "\n".join(lines) + "\n" + tables.markdown(run) + "\nPercent with 95 % intervals; bold is best.\n"
