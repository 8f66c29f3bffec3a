"""Corruptions of any dataset, on the fly: its `id` pictures once more for each kind and severity, each a shift.

The pictures are made as they are opened (`data.corrupt`), nothing is written; the report splits are named after
what was done, `fog-3`, and a run folder remembers it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from likewise.data.corrupt import KINDS, SEVERITIES, known, parsed
from likewise.data.records import Dataset, Split
from likewise.datasets import DATASETS
from likewise.errors import UsageError

WORD = "corruptions"


def corrupted(
    data: Dataset, kinds: Sequence[str] = tuple(KINDS), severities: Sequence[int] = SEVERITIES, seed: int = 0
) -> Dataset:
    """The dataset with a report split `kind-severity` for each, of the pictures of its `id`; those it has stay.

    Hendrycks and Dietterich 2019, arXiv:1903.12261, whose 15 kinds and 5 severities are the default. What is random
    in a picture is drawn from (seed, kind, severity, the picture's key). Train and select pictures are left alone: to
    train on corruptions is to be tested on nothing new. The access log is shared. Raises `UsageError` U05 for kinds
    and severities that are not known, U02 where the dataset has no `id` or has such splits already.
    """
    names = [f"{known(kind)}-{severity}" for kind in kinds for severity in severities]
    for name in names:
        parsed(f"{name}:{seed}")
    identity = data._report.get("id")
    if identity is None:
        raise UsageError("U02", f"{data.name} has no report split «id» whose pictures could be corrupted.")
    report = [*data._report.values(), *(_of(identity, name, seed) for name in names)]
    audit = copy.deepcopy(data.audit)
    audit.counts |= {name: identity.counts(data.classes) for name in names}
    audit.note("D00", f"{len(names)} splits are corrupted copies of the {len(identity):,} pictures of id, seed {seed}")
    return replace(data, name=f"{data.name}+{WORD}", report=report, audit=audit)


def asked(name: str) -> tuple[str, tuple[str, ...], tuple[int, ...]] | None:
    """What stands before the last `+` of a dataset's name, and the kinds and severities after it; None without them.

    `iconshift+corruptions` are all, `iconshift+corruptions-3` those of one severity, `iconshift+fog,jpeg-5` two kinds
    at severity 5, `iconshift+fog` one kind at all five. Raises `UsageError` U05 for words that are no corruptions,
    where they are meant to be: others beside them are, or a dataset or a path that exists stands before the `+`.
    """
    base, plus, rest = name.rpartition("+")
    form = re.fullmatch(r"(.*?)(?:-([0-9]+))?", rest)
    if not plus or not base or form is None:
        return None
    words = form[1].split(",")
    meant = words == [WORD] or set(words) & set(KINDS)
    if not (meant or base in DATASETS or (re.fullmatch("[A-Za-z_,-]+[0-9]*", rest) and Path(base).exists())):
        return None
    severities = (int(form[2]),) if form[2] else SEVERITIES
    if not set(severities) <= set(SEVERITIES):
        raise UsageError("U05", f"severity {form[2]} asked in {name}; there are {', '.join(map(str, SEVERITIES))}.")
    if words == [WORD]:
        return base, tuple(KINDS), severities
    return base, tuple(known(word, [WORD] * (len(words) == 1)) for word in words), severities


def corrupting(name: str, seed: int = 0) -> tuple[str, Callable[[Dataset], Dataset]]:
    """What to open for a dataset's name or path, and what to make of it then: its corruptions, where `name` asks."""
    chosen = None if Path(name).exists() else asked(name)
    if chosen is None:
        return name, lambda data: data
    base, kinds, severities = chosen
    return base, lambda data: corrupted(data, kinds, severities, seed)


def _of(identity: Split, name: str, seed: int) -> Split:
    return replace(identity, name=name, change=f"{name}:{seed}")
