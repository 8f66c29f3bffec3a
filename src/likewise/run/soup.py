"""Soups: which of several trainings of a recipe go into one, and the mean of their weights.

Wortsman et al. 2022, arXiv:2203.05482.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from likewise.heads import LinearHead
from likewise.merging import mean
from likewise.recipe import Recipe, at_rate
from likewise.run.tuned import Tuned


def member(recipe: Recipe, rate: float) -> Recipe:
    """The recipe of one member: every learning rate times `rate`."""
    return at_rate(recipe, rate).model_copy(update={"soup": None})


def stir(members: list[Tuned]) -> Tuned:
    """One model whose numbers are the means of the members', head included."""
    head = members[0].head
    if isinstance(head, LinearHead):
        tensors = mean([m.head.state_dict() for m in members if m.head is not None])
        head = LinearHead(tensors["weight"], tensors.get("bias"), head.config)
    return replace(members[0], values=mean([m.values for m in members]), head=head)


def greedy(members: list[Tuned], score: Callable[[Tuned], float]) -> list[Tuned]:
    """Recipe 1 of the paper: from the best down, each stays if the mean is then no worse on the select split."""
    ranked = sorted(members, key=score, reverse=True)
    kept, best = ranked[:1], score(ranked[0])
    for one in ranked[1:]:
        found = score(stir([*kept, one]))
        if found >= best:
            kept, best = [*kept, one], found
    return kept
