"""The report of a run that tuned on captions: kNN along alpha for each k and domain, numbers, pictures' neighbours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from likewise import files
from likewise.data.decode import picture
from likewise.errors import DataError
from likewise.metrics import Estimate
from likewise.report import page, words
from likewise.report.charts import percent_ticks
from likewise.report.pictures import encode
from likewise.report.read import ID, MEAN, NOWHERE, SELECT
from likewise.report.svg import Canvas, Point, padded, slots, spread, width_of
from likewise.run.folder import CAPTIONS

TEXT = 11
THUMB = 56


@dataclass(frozen=True)
class Captions:
    """Everything the page says, read from the run folder. `scores` are by method, alpha, domain and metric."""

    folder: Path
    tree: Mapping[str, Any]
    config: Mapping[str, Any]
    scores: Mapping[tuple[str, float | None, str, str], Estimate]
    near: Mapping[str, Any]
    names: Sequence[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def metric(self) -> str:
        """The metric by which alpha was chosen."""
        return str(self.tree["metric"])

    @property
    def methods(self) -> Mapping[str, Mapping[str, Any]]:
        methods: Mapping[str, Mapping[str, Any]] = self.tree["methods"]
        return methods

    @property
    def warnings(self) -> Sequence[Mapping[str, str]]:
        """What was found in the pairs before training, by code."""
        found: Sequence[Mapping[str, str]] = self.tree.get("warnings", ())
        return found

    @property
    def domains(self) -> list[str]:
        """Where features are judged: in distribution, other domains, their mean where it is one; then other data."""
        found = list(dict.fromkeys(d for _, _, d, m in self.scores if m == self.metric))
        own = [d for d in found if ":" not in d and d not in (SELECT, MEAN, ID)]
        return [*([ID] if ID in found else []), *own, *([MEAN] if len(own) > 1 else []),
                *(d for d in found if ":" in d and not d.endswith(":" + SELECT))]  # fmt: skip

    @property
    def neighbours(self) -> list[str]:
        """The kNN metrics, from few neighbours to many."""
        found = {m for _, _, _, m in self.scores if m.startswith("knn@")}
        return sorted(found, key=lambda m: int(m.partition("@")[2]))

    def score(self, method: str, alpha: float | None, domain: str, metric: str) -> Estimate:
        """A number, or one of NaN."""
        return self.scores.get((method, alpha, domain, metric), NOWHERE)

    def path(self, method: str, domain: str, metric: str) -> list[tuple[float, Estimate]]:
        """(alpha, score) along a method's path."""
        steps = [(a, self.score(method, a, domain, metric)) for a in self.methods[method]["alphas"] or (1.0,)]
        return [(a, e) for a, e in steps if not math.isnan(e.value)]

    def base(self, domain: str, metric: str) -> Estimate:
        """The pretrained encoder's number."""
        return self.score(self.tree["baseline"], None, domain, metric)


def short(name: str) -> str:
    """A method's name on its own page, where all of them learn from captions."""
    return name.removeprefix("caption-")


def read_captions(folder: Path) -> Captions:
    """The run in a folder. Raises `DataError` R04 where what it holds is garbled."""
    tree = files.read_json(folder / "results.json")
    try:
        scores = {
            (str(r["method"]), r["alpha"], str(r["domain"]), str(r["metric"])): Estimate(
                float(r["value"]), float(r["low"]), float(r["high"]), int(r["n"])
            )
            for r in tree["rows"]
        }
        config = yaml.safe_load((folder / "config.yaml").read_text())
        near = files.read_json(folder / "neighbours.json")
        names = files.read_json(folder / "data" / tree["judges"][0] / "classes.json")["names"]
        _ = (
            tree["chosen"]["method"],
            tree["metric"],
            tree["baseline"],
            tree["methods"],
            tree["notes"],
            near["before"],
            near["after"],
            near["of"],
        )
    except (KeyError, TypeError, ValueError, OSError, json.JSONDecodeError) as error:
        message = f"{folder} lacks or garbles {error}: it was written by another version of likewise, or edited."
        raise DataError("R04", f"{message} Tune again: likewise caption.") from None
    return Captions(folder, tree, config, scores, near, names)


def panel(
    run: Captions, domain: str, metric: str, colours: Mapping[str, int], limits: Point, size: Point = (300, 210)
) -> str:
    """One metric on one domain along alpha; the dashed level is the pretrained encoder's."""
    right = 12 + max((width_of(short(name), TEXT) for name in run.methods), default=0)
    canvas = Canvas(*size, (10, right, 34, 36), (0, 1), limits)
    canvas.axes([(0, "0"), (0.5, "½"), (1, "1")], percent_ticks(*limits, 5))
    canvas.text((canvas.margin[3] + canvas.width - right) / 2, canvas.height - 4, "alpha", "axis middle")
    base = run.base(domain, metric)
    if not math.isnan(base.value):
        canvas.line([(0, base.value), (1, base.value)], "level", 0)
    chosen, alpha = run.tree["chosen"]["method"], run.tree["chosen"]["alpha"]
    known = {name: run.path(name, domain, metric) for name in run.methods}
    known = {name: steps for name, steps in known.items() if steps}
    if len(known.get(chosen, ())) > 1:
        low, high = limits
        upper = [(a, min(high, e.high)) for a, e in known[chosen]]
        canvas.area(upper + [(a, max(low, e.low)) for a, e in reversed(known[chosen])], "band", colours[chosen])
    for name, steps in known.items():
        kind = "path" + (" strong" if name == chosen else "")
        canvas.line([(a, e.value) for a, e in steps], kind, colours[name])
        for a, e in steps:
            canvas.dot((a, e.value), 2.4, "step", colours[name])
    if chosen in known and alpha is not None and not math.isnan(run.score(chosen, alpha, domain, metric).value):
        canvas.star((alpha, run.score(chosen, alpha, domain, metric).value), 8)
    ends = [(steps[-1][1].value, name) for name, steps in known.items()]
    bottom = canvas.height - canvas.margin[2]
    heights = spread([canvas.y(value) + 3.5 for value, _ in ends], 12, canvas.margin[0] + 4, bottom + 2)
    for (_, name), y in zip(ends, heights, strict=True):
        canvas.text(canvas.width - right + 8, y, short(name), "small label", colours[name])
    told = ", ".join(f"{name} {words.pct(s[-1][1].value)} % at alpha {s[-1][0]:g}" for name, s in known.items())
    return canvas.svg(f"{metric} on {domain} along alpha. {told}. Pretrained {words.pct(base.value)} %.")


def window(run: Captions, domains: Sequence[str], metrics: Sequence[str]) -> Point:
    """One scale for panels that are to be compared: all means of these."""
    values = [e.value for (m, _, d, k), e in run.scores.items() if d in domains and k in metrics]
    low, high = padded(values, 0.08)
    return max(0.0, low), min(1.0, high)


def albums(run: Captions) -> list[dict[str, Any]]:
    """Example pictures with their neighbours before and after; a picture that has gone is None."""
    out = []
    for before, after in zip(run.near["before"], run.near["after"], strict=True):
        label = before["picture"]["label"]
        rows = [
            [{"uri": _thumb(p), "name": run.names[p["label"]], "right": p["label"] == label} for p in row["near"]]
            for row in (before, after)
        ]
        out.append({"uri": _thumb(before["picture"]), "name": run.names[label], "before": rows[0], "after": rows[1]})
    return out


def _after(run: Captions) -> str:
    """Which encoder the later neighbours are of, in words."""
    of = run.near["of"]
    if of["method"] == run.tree["chosen"]["method"]:
        return "the chosen one"
    title = run.methods[of["method"]]["title"]
    return (
        f"the best tuned one on the select split ({title} {words.alpha(of['alpha'])}), since the pretrained one stays"
    )


def _thumb(about: Mapping[str, Any]) -> str | None:
    try:
        return encode(picture(Path(about["path"]), int(about["row"])), 2 * THUMB)
    except (DataError, OSError):  # moved since the run
        return None


def lines(run: Captions) -> list[tuple[str, float | None, str]]:
    """(method, alpha, title) of the table's rows: the pretrained encoder, each method at its alpha and at its last."""
    out: list[tuple[str, float | None, str]] = [(run.tree["baseline"], None, "pretrained")]
    for name, about in run.methods.items():
        for alpha in dict.fromkeys((about["alpha"], max(about["alphas"], default=1.0))):
            out.append((name, alpha, about["title"]))
    return out


def recalled(run: Captions) -> list[str]:
    """The retrieval metrics there are, pictures first."""
    return list(dict.fromkeys(m for _, _, d, m in run.scores if d == CAPTIONS))


def render(run: Captions) -> str:
    """The page as HTML."""
    colours = slots(run.methods)
    first = run.domains[0]
    by_k = window(run, [first], run.neighbours)
    judges = [[d for d in run.domains if ":" not in d], [d for d in run.domains if ":" in d]]
    by_domain = {d: window(run, group, [run.metric]) for group in judges for d in group}
    command = run.folder / "command.txt"
    return page.filled(
        "captions.html.j2",
        run=run,
        colours=colours,
        ks=[(k, Markup(panel(run, first, k, colours, by_k))) for k in run.neighbours],
        panels=[(d, Markup(panel(run, d, run.metric, colours, by_domain[d]))) for d in run.domains],
        others=judges[1],
        lines=lines(run),
        recalled=recalled(run),
        albums=albums(run),
        after=_after(run),
        why=run.tree["chosen"]["why"],
        command=command.read_text().strip() if command.exists() else "",
    )


def summary(run: Captions) -> str:
    """`report.md`: the choice, and the metric that chose on every domain."""
    out = [f"# {run.name}: {run.config['encoder']} tuned on {run.config['pairs']}", "", run.tree["chosen"]["why"], ""]
    out += ["| method | " + " | ".join(run.domains) + " |", "|---|" + "---:|" * len(run.domains)]
    for name, alpha, title in lines(run):
        found = [run.score(name, alpha, d, run.metric) for d in run.domains]
        cells = [f"{words.pct(e.value)} ({words.span(e)})" if not math.isnan(e.value) else words.NONE for e in found]
        out.append(f"| {title} {words.alpha(alpha)} | " + " | ".join(cells) + " |")
    out += ["", f"{run.metric}, percent with 95 % intervals."]
    out += ["", *(f"- warning {found['code']}: {found['message']}" for found in run.warnings)] if run.warnings else []
    return "\n".join(out) + "\n"
