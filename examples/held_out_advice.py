"""What advice is worth on data that it does not know: each offline data set is advised from the others alone.

    python examples/held_out_advice.py [--write docs/held-out-advice.md]

No run: it reads the evidence that ships (`likewise bench offline`), takes one data set out of it, asks `rank` for the
recipe in that data set's regime, and looks up how that recipe did there. Beside it stand the same for always one recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from likewise.encoders import load
from likewise.recipes import get
from likewise.recommend.evidence import PRIORITIES, Evidence, Priority, offline, papers
from likewise.recommend.ranking import inert, rank
from likewise.run.planning import plans, trained

CONSTANT = ("zero-shot", "linear-pooled", "ln", "ft", "lp-ft", "flyp")


def sizes() -> dict[str, int]:
    """How many numbers each method of the evidence trains of its encoder, for ten classes."""
    encoder = load(offline().encoder)
    names = dict.fromkeys(trial.method for one in offline().evidence for trial in one.trials)
    recipes = {name: get(name, encoder.rate_scale) for name in names}
    return {name: sum(trained(r, plans(r, encoder, 10, 100)).values()) for name, r in recipes.items()}


def advice(held: Evidence, priority: Priority, numbers: dict[str, int]) -> str:
    """The recipe that the other data sets speak for."""
    rest = [one for one in offline().evidence if one.data != held.data]
    return rank((held.amount, held.likeness), priority, rest, papers(), numbers, inert(rest, held.amount)).order[0]


def page() -> str:
    numbers = sizes()
    parts = [
        "# Advice on data that it does not know", "",
        "Made by `python examples/held_out_advice.py` from the evidence that ships (`likewise bench offline`: icon-clip, 2 cores,",
        "2 seeds, 351 to 500 pictures in distribution and 600 to 1,157 out of it). Each data set is advised from the others alone;",
        "the figure is how the advised recipe did there, in percent, and how many points the best recipe there is ahead. Within",
        "one standard error of the best is marked ✓. Three data sets and eight recipes are little: with one of two far data sets",
        "taken out, the other alone advises, and IconShift, the only near one, is advised by papers alone.", "",
    ]  # fmt: skip
    for priority in PRIORITIES:
        parts += [f"## {priority}", "", "| data | advised | there | best | behind | |", "|---|---|---:|---:|---:|---|"]
        lost: dict[str, list[float]] = {}
        for held in offline().evidence:
            scores = held.scores(priority)
            best = max(scores, key=lambda name: scores[name].value)
            top, chosen = scores[best], advice(held, priority, numbers)
            near = "✓" if scores[chosen].value >= top.value - top.error else ""
            gap = 100 * (top.value - scores[chosen].value)
            parts.append(f"| {held.label} | {chosen} | {100 * scores[chosen].value:.1f} | {best} {100 * top.value:.1f} ± "
                         f"{100 * top.error:.1f} | {gap:.1f} | {near} |")  # fmt: skip
            for name in CONSTANT:
                lost.setdefault(f"always {name}", []).append(100 * (top.value - scores[name].value))
            lost.setdefault("as advised", []).append(gap)
        ranked = sorted(lost.items(), key=lambda item: sum(item[1]))
        told = ", ".join(f"{name} {sum(gaps) / len(gaps):.1f}" for name, gaps in ranked)
        parts += ["", f"Points behind the best, mean over the six: {told}.", ""]
    return "\n".join(parts)


def main(write: Annotated[Path | None, typer.Option(help="Write the page here.")] = None) -> None:
    """Print the page, or write it."""
    if write:
        write.write_text(page())
    else:
        print(page())


if __name__ == "__main__":
    typer.run(main)
