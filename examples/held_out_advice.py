"""What advice is worth on data that it does not know: each offline data set is advised from the others alone.

    python examples/held_out_advice.py [--write docs/held-out-advice.md]

No run: it reads the evidence that ships (`likewise bench offline`), takes one data set out of it, asks for the recipe, and
looks up how that recipe did there. Beside it stand always one recipe, other rules on the same evidence, and advice by one
seed's trials on the other's.
"""

from __future__ import annotations

import functools
import statistics
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from likewise.recommend.evidence import (
    PRIORITIES,
    Evidence,
    Priority,
    Score,
    groups,
    nearest,
    offline,
    papers,
    pooled,
    size_of,
)
from likewise.recommend.ranking import Question, inert, ordered
from likewise.recommend.worth import Judged, Rule, advised, constants, held_out, lost

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
"""Of the evidence of other regimes beside that of the asked one, among the rules that were compared."""

# -- other rules ---------------------------------------------------------------------------------------------------


def behind_the_best(evidence: Sequence[Evidence], weights: Sequence[float], priority: Priority) -> dict[str, Score]:
    """Of each method the weighted mean over data sets of how far it is from the best method there."""
    each = [one.scores(priority) for one in evidence]
    tops = [max(score.value for score in scores.values()) for scores in each]
    value, error, total = dict.fromkeys(each[0], 0.0), dict.fromkeys(each[0], 0.0), sum(weights)
    for scores, top, weight in zip(each, tops, weights, strict=True):
        for method, score in scores.items():
            value[method] += weight / total * (score.value - top)
            error[method] += (weight / total * score.error) ** 2
    return {method: Score(value[method], error[method] ** 0.5) for method in value}


def weighted(weight: float, asked: Question, evidence: Sequence[Evidence], sizes: Mapping[str, int]) -> str:
    """By all evidence, that of other regimes at a weight; data like none of ours goes by the nearest in number."""
    own = nearest([one for one in evidence if one.likeness == asked.likeness], asked.per_class)
    own = own or nearest(evidence, asked.per_class)
    scores = behind_the_best(evidence, [1.0 if one in own else weight for one in evidence], asked.priority)
    return ordered(asked, own, scores, papers(), sizes, inert(evidence, asked.per_class)).order[0]


def best_elsewhere(asked: Question, evidence: Sequence[Evidence], sizes: Mapping[str, int]) -> str:
    """One recipe for all: the one that was least behind on the data sets that are known."""
    scores = behind_the_best(evidence, [1.0] * len(evidence), asked.priority)
    return max(scores, key=lambda method: scores[method].value)


RULES: dict[str, Rule] = {
    "as advised": advised,
    **{f"nearest of any, others at {weight:g}": functools.partial(weighted, weight) for weight in WEIGHTS},
    "best of the other data sets": best_elsewhere,
}

# -- the other seed ------------------------------------------------------------------------------------------------


def of_seeds(evidence: Sequence[Evidence], seeds: Collection[int]) -> list[Evidence]:
    """The same with some seeds' trials alone."""
    kept = [tuple(trial for trial in one.trials if trial.seed in seeds) for one in evidence]
    return [one.model_copy(update={"trials": trials}) for one, trials in zip(evidence, kept, strict=True)]


def crossed(evidence: Sequence[Evidence], priority: Priority) -> dict[int, list[Judged]]:
    """By seed: every regime of the evidence advised by the other seeds' trials, and judged by this one's."""
    found: dict[int, list[Judged]] = {}
    seeds = {trial.seed for one in evidence for trial in one.trials}
    for seed in sorted(seeds):
        seen = of_seeds(evidence, seeds - {seed})
        for group in groups(of_seeds(evidence, {seed})):
            method = advised(Question(size_of(group), group[0].likeness, priority), seen, group[0].sizes)
            where = "; ".join(one.label for one in group)
            found.setdefault(seed, []).append(Judged(where, method, pooled(group, priority)))
    return found


def close(judged: Sequence[Judged], method: str = "") -> int:
    """In how many the advice, or a method, is within one standard error of the best."""
    return sum(one.close(method) for one in judged)


# -- the page ------------------------------------------------------------------------------------------------------


def of_priority(priority: Priority) -> list[str]:
    """Each question, and what was lost."""
    judged = held_out(offline().evidence, priority)
    lines = [f"## {priority}", "", "| data | advised | there | best | behind | |", "|---|---|---:|---:|---:|---|"]
    for one in judged:
        top, near = one.scores[one.best], "✓" if one.close() else ""
        lines.append(f"| {one.where} | {one.method} | {100 * one.scores[one.method].value:.1f} | {one.best} "
                     f"{100 * top.value:.1f} ± {100 * top.error:.1f} | {one.behind():.1f} | {near} |")  # fmt: skip
    told = {"as advised": lost(judged)} | {f"always {name}": gap for name, gap in constants(judged).items()}
    ranked = ", ".join(f"{name} {gap:.1f}" for name, gap in sorted(told.items(), key=lambda item: item[1]))
    return [*lines, "", wrapped(f"Points behind the best, mean over the {len(judged)}: {ranked}."), ""]


def of_rules() -> list[str]:
    """The rules that were compared, by points behind the best, and under which priorities a constant is better."""
    known = offline().evidence
    ours = {priority: held_out(known, priority) for priority in PRIORITIES}
    gaps = {name: [lost(held_out(known, priority, rule)) for priority in PRIORITIES] for name, rule in RULES.items()}
    gaps |= {f"always {name}": [lost(ours[p], name) for p in PRIORITIES] for name in constants(ours[PRIORITIES[0]])}
    better = [f"{priority}: {', '.join(f'always {name}' for name, gap in constants(judged).items() if gap < lost(judged))}"
              for priority, judged in ours.items() if min(constants(judged).values()) < lost(judged)]  # fmt: skip
    lines = [f"| rule | {' | '.join(PRIORITIES)} | mean |", "|---|---:|---:|---:|---:|"]
    for name, each in gaps.items():
        lines.append(f"| {name} | {' | '.join(f'{gap:.2f}' for gap in each)} | {statistics.fmean(each):.2f} |")
    return [*lines, "", f"Constants that are better than the advice: {'; '.join(better) or 'none'}."]


def of_seed() -> list[str]:
    """In how many questions the advice by one seed was good on the other, and each constant."""
    judged = both_ways(offline().evidence)
    counts = {"as advised": [close(each) for each in judged.values()]}
    for name in offline().evidence[0].sizes:
        counts[f"always {name}"] = [close(each, name) for each in judged.values()]
    number = sum(len(each) for each in judged.values())
    lines = [f"| | {' | '.join(judged)} | of {number} |", "|---|---:|---:|---:|---:|"]
    ranked = sorted(counts.items(), key=lambda item: -sum(item[1]))
    return [*lines, *(f"| {name} | {' | '.join(map(str, each))} | {sum(each)} |" for name, each in ranked)]


def both_ways(evidence: Sequence[Evidence]) -> dict[Priority, list[Judged]]:
    """`crossed` under each priority, with every seed's questions together."""
    return {priority: [one for each in crossed(evidence, priority).values() for one in each] for priority in PRIORITIES}


def summary() -> str:
    """What docs/recommend.md says of it."""
    evidence = offline().evidence
    told = []
    for priority in PRIORITIES:
        judged = held_out(evidence, priority)
        best, least = next(iter(constants(judged).items()))
        told.append(f"{priority} {lost(judged):.1f} (always {best} {least:.1f})")
    asked = [one for each in both_ways(evidence).values() for one in each]
    rivals = {name: close(asked, name) for name in evidence[0].sizes}
    names = sorted(rivals, key=lambda name: -rivals[name])[:2]
    beside = ", ".join(f"always {name} for {rivals[name]}" for name in names)
    return (
        f"Advised by one seed's trials, the recipe is within one standard error of the best by the other seed's for "
        f"{close(asked)} of {len(asked)} questions ({beside}). On a data set that it has not seen it is so many points "
        f"behind the best recipe on average, beside the single recipe that is best in hindsight: {'; '.join(told)}."
    )


ABOUT = """
Made by `python examples/held_out_advice.py` from the evidence that ships (`likewise bench offline`: icon-clip, 2 cores, 2
seeds). Each data set is advised from the others alone; the figure is how the advised recipe did there, in percent, and how
many points the best recipe there is ahead. Within one standard error of the best is marked ✓. Three data sets and eight
recipes are little: with one of two far data sets taken out, the other alone advises, and IconShift, the only near one, is
advised by papers alone.
"""
ABOUT_RULES = """
Mean points behind the best over the same questions. *As advised* takes the evidence of data as like, at the nearest number
of pictures; where there is none as like, papers alone. *Nearest of any* takes the nearest in number there, and the mean over
all data sets of how far a method is from the best, with the other regimes at a weight. Both take the best and all within one
standard error of it, then papers' order, then size. *Best of the other data sets* is one recipe for all, chosen without the
data set that it is asked of; which of the constants is best is hindsight. With three data sets the choice among these rules
is itself not held out, and that papers alone advise on data like none of ours rests on IconShift.
"""
ABOUT_SEEDS = """
In how many questions (four regimes, either seed held out) the recipe is within one standard error of the best of the regime.
Shots, order and starts are new; the data sets and their report pictures are the same.
"""


def wrapped(text: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def page() -> str:
    """The whole page."""
    parts = ["# Advice on data that it does not know", "", wrapped(ABOUT), ""]
    for priority in PRIORITIES:
        parts += of_priority(priority)
    parts += ["## Rules that were compared", "", wrapped(ABOUT_RULES), "", *of_rules(), ""]
    parts += ["## By one seed's trials, judged by the other's", "", wrapped(ABOUT_SEEDS), "", *of_seed(), ""]
    return "\n".join(parts)


def main(write: Annotated[Path | None, typer.Option(help="Write the page here.")] = None) -> None:
    """Print the page and the summary, or write the page."""
    if write:
        write.write_text(page())
    else:
        print(page())
        print(summary())


if __name__ == "__main__":
    typer.run(main)
