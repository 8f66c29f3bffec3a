"""The recipe for a person's data: which, how long, at what cost, and why."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError
from likewise.recipe import Descent, Machine, Recipe
from likewise.recipes import get
from likewise.recommend.cost import Cost, measure
from likewise.recommend.evidence import NEAR, Evidence, Priority, apart, offline, papers, size_of
from likewise.recommend.ranking import Question, Ranking, inert, rank
from likewise.recommend.regime import KIM_SIMILAR, MIDDLE, Regime, regime
from likewise.recommend.worth import caution
from likewise.run.adapt import BASELINE
from likewise.run.planning import plans, trained

HALF = 0.5
"""The alpha of `robust`: near the best in every one of WiSE-FT's shifts (Wortsman et al. 2022, arXiv:2109.01903,
section 4, recommend it where nothing is known of the shift)."""


class Recommendation(NamedTuple):
    """`recipe` is `method`'s with `edits`, at the encoder's rates. `reasons` are sentences, each with its source;
    `late` names what ranked before it and would not end in time, with the seconds it would take.
    """

    method: str
    edits: tuple[str, ...]
    recipe: Recipe
    trains: int
    priority: Priority
    place: Regime
    ranking: Ranking
    cost: Cost
    late: dict[str, float]
    reasons: tuple[str, ...]

    def tree(self) -> dict[str, Any]:
        """Plain data, for the run folder and `--json`."""
        scores = {name: score._asdict() for name, score in self.ranking.scores.items()}
        return {
            "method": self.method, "edits": list(self.edits), "trains": self.trains, "priority": self.priority,
            "regime": self.place.tree(), "close": list(self.ranking.close), "behind": list(self.ranking.behind),
            "scores": scores, "cost": {**self.cost._asdict(), "seconds": self.cost.seconds}, "late": self.late,
            "reasons": list(self.reasons), "recipe": self.recipe.tree(),
        }  # fmt: skip


def recommend(
    encoder: Encoder, data: Dataset, *, priority: Priority = "balanced", time_limit: float = 0.0,
    machine: Machine | None = None, seed: int = 0,
) -> Recommendation:  # fmt: skip
    """The recipe that `rank` puts first, at the length its evidence was made with, if it ends within `time_limit`
    seconds (0: any); else the next that does.

    Reads training and select pictures, never a report split. Raises `UsageError` M03 for an encoder without a text
    tower, T01 where nothing ends in time.
    """
    machine = machine or Machine()
    if not encoder.has("text"):
        raise UsageError(
            "M03", f"{encoder.spec.name} has no text tower, and what is recommended are ways to adapt an image-text "
            "model. Tune an image tower on captions: likewise caption PAIRS --encoder ..., or use icon-clip."
        )  # fmt: skip
    reading = {"batch": machine.eval_batch, "workers": machine.workers}
    place = regime(encoder, data, None, **reading)
    assert place.likeness is not None  # a text tower gives a zero-shot accuracy
    known = offline()
    recipes = {name: get(name, encoder.rate_scale) for name in _methods(known.evidence)}
    sizes = _sizes(recipes, encoder, data)
    slow = inert(known.evidence, place.per_class) if encoder.spec.name == known.encoder else ()
    asked = Question(place.per_class, place.likeness, priority)
    ranking = rank(asked, known.evidence, papers(), sizes, slow)
    late: dict[str, float] = {}
    for method in ranking.order:
        edits = _edits(recipes[method], ranking.evidence, len(data.train), priority)
        recipe = recipes[method].edited(*edits)
        cost = measure(method, recipe, encoder, data, machine, seed)
        if not time_limit or cost.seconds <= time_limit:
            found = Recommendation(method, edits, recipe, sizes[method], priority, place, ranking, cost, late, ())
            return found._replace(reasons=tuple(_reasons(found, encoder, known.encoder)))
        late[method] = cost.seconds
    least = min(late, key=lambda method: late[method])
    raise UsageError(
        "T01", f"no method ends within {time_limit:.0f} s here: the quickest, {least}, would take {late[least]:.0f} s. "
        "Allow more with --time-limit, or take fewer pictures: likewise adapt DATA --shots 16."
    )  # fmt: skip


def _methods(evidence: Sequence[Evidence]) -> list[str]:
    return list(dict.fromkeys(method for one in evidence for method in one.sizes))


def _sizes(recipes: Mapping[str, Recipe], encoder: Encoder, data: Dataset) -> dict[str, int]:
    """How many numbers each method trains here; without those that the encoder cannot take."""
    sizes = {}
    for name, recipe in recipes.items():
        with contextlib.suppress(ConfigError):
            plan = plans(recipe, encoder, len(data.classes), len(data.train))
            sizes[name] = sum(trained(recipe, plan).values())
    return sizes


def _edits(recipe: Recipe, evidence: Sequence[Evidence], pictures: int, priority: Priority) -> tuple[str, ...]:
    """At least as many steps and epochs as in the evidence, in its batches; `robust` stops halfway."""
    edits = []
    if evidence:
        batch = evidence[0].batch
        steps = max(one.steps for one in evidence)
        epochs = max(min(one.epochs for one in evidence), math.ceil(steps / math.ceil(pictures / batch)))
        length = {"epochs": epochs, "batch": batch}
        descents = [index for index, stage in enumerate(recipe.stages) if isinstance(stage.fit, Descent)]
        edits = [f"stages.{index}.fit.{key}={value}" for index in descents for key, value in length.items()]
    if priority == "robust" and recipe.merge is not None:
        edits.append(f"merge.alpha={HALF}")
    return tuple(edits)


def _reasons(found: Recommendation, encoder: Encoder, ours: str) -> list[str]:
    ranking, method, path = found.ranking, found.method, found.recipe.merge
    out = [_where(found.place), _ours(found, ours)]
    if method in ranking.close and len(ranking.close) > 1:
        out.append(_tie(found))
    out += [f"{finding.source}: {finding.says}." for finding in ranking.findings]
    if found.priority == "robust" and path is not None:
        out.append(f"robust: alpha is {HALF:g} instead of chosen on select pictures, which know nothing of a shift.")
    if encoder.spec.name != ours:
        out.append(
            f"Our evidence is {ours}'s, not {encoder.spec.name}'s: compare a few methods (--methods) before you rely "
            "on it."
        )
    out += [f"{name} ranked before it and would take {seconds:.0f} s." for name, seconds in found.late.items()]
    return [*out, caution(found.priority)]


def _where(place: Regime) -> str:
    assert place.zero_shot is not None
    way = 100 * (place.above_chance or 0)
    return (
        f"Your data: {place.amount}, {place.likeness}. {place.per_class:g} training pictures a class (many from "
        f"{MIDDLE}); zero-shot {100 * place.zero_shot.value:.1f} % of {place.zero_shot.n} select pictures, {way:.0f} % "
        f"of the way from chance to all right (similar from {100 * KIM_SIMILAR:.0f}). {place.doubt}"
    ).strip()


def _ours(found: Recommendation, encoder: str) -> str:
    """What the offline runs say."""
    ranking, method = found.ranking, found.method
    if not ranking.evidence:
        return f"Nothing of ours was measured on {found.place.likeness} data: papers alone decide."
    what = {
        "in-distribution": "in distribution",
        "robust": "out of distribution, at alpha 0.5",
        "balanced": "in and out of distribution, the mean",
    }[found.priority]
    where = "; ".join(one.label for one in ranking.evidence)
    said = _compared(ranking, method)
    same = [name for name in ranking.close if all(name in one.stayed for one in ranking.evidence)]
    if found.priority != "robust" and len(same) > 1 and method in (*same, BASELINE):
        value = 100 * ranking.scores[method].value
        said = (
            f"ours cannot tell {', '.join(same)} apart: for each, the select pictures chose alpha 0, the pretrained "
            f"model ({value:.1f} %)"
        )
    far = ""
    if apart(size_of(ranking.evidence), found.place.per_class) > NEAR:
        far = (
            f" Nothing of ours on {found.place.likeness} data is near in number to your {found.place.per_class:g} "
            f"pictures a class: that is more than {NEAR:g} times away."
        )
    return f"likewise bench offline ({encoder}; nearest to yours: {where}; {what}): {said}.{far}"


def _compared(ranking: Ranking, method: str) -> str:
    """A method beside the best and the baseline."""
    best = max(ranking.scores, key=lambda name: (ranking.scores[name].value, name == method))
    own, top = ranking.scores[method], ranking.scores[best]
    error = f"one standard error ({100 * top.error:.1f})"
    said = f"{method} has {100 * own.value:.1f} %"
    if best == method:
        said += f", the best; {error}"
    else:
        side = "within" if method in ranking.close else "beyond"
        said += f", {best} {100 * top.value:.1f}, {side} {error}"
    if BASELINE in ranking.scores and BASELINE not in (method, best):
        said += f"; {BASELINE} {100 * ranking.scores[BASELINE].value:.1f}"
    return said


def _tie(found: Recommendation) -> str:
    """Why it leads those that ours cannot tell from it."""
    ranking, method = found.ranking, found.method
    rest = ", ".join(name for name in ranking.close if name != method)
    papers = [finding.source for finding in ranking.findings if finding.decides and method in finding.methods]
    if found.late:  # which rank before it, by whatever reason
        lead = "the first of them that ends in time"
    elif papers and found.priority != "robust":
        lead = f"the first of them that {papers[0]} ranks"
    else:
        lead = f"the one that trains {f'fewest numbers ({found.trains:,})' if found.trains else 'nothing'}"
    if ranking.slow and method not in ranking.slow:
        lead += (
            f", {', '.join(ranking.slow)} aside: with about so many pictures a class no data of ours has a gain of "
            "theirs beyond one standard error, in distribution"
        )
    return f"{rest} cannot be told from it by that; {method} is {lead}."
