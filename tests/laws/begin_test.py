"""Methods that begin alike train the beginning once, and end as if each had trained its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.recipes import RECIPES
from likewise.run.method import beginning, fit_method
from tiny import make_job, shrunk


@pytest.mark.parametrize(("first", "second"), [("kim-ln", "kim-init-adapter"), ("linear", "lp-ft")])
def test_a_beginning_is_taken_up(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path, first: str, second: str
) -> None:
    a, b = shrunk(RECIPES[first]), shrunk(RECIPES[second])
    assert beginning(a, 0) == beginning(b, 0) != beginning(b, 1)
    alone = fit_method(second, b, make_job(fresh("plain"), data), tmp_path / "alone")
    job = make_job(fresh("plain"), data)
    job.repeated = frozenset({beginning(a, 0)})
    fit_method(first, a, job, tmp_path / "first")
    assert len(job.begun) == 1
    (begun,) = job.begun.values()
    begun.values.update({name: value.clone() for name, value in begun.values.items()})
    shared = fit_method(second, b, job, tmp_path / "second")
    assert list(shared.values) == list(alone.values)
    assert all(torch.equal(value, alone.values[name]) for name, value in shared.values.items())
    assert shared.trained == alone.trained
    assert shared.notes == alone.notes
    journals = [(tmp_path / place / "journal.jsonl").read_text() for place in ("alone", "second")]
    assert journals[0] == journals[1]
    # had the beginning been another, the end would be
    for value in (*begun.values.values(), *begun.head.values()):
        value.add_(0.1)
    other = fit_method(second, b, job, tmp_path / "third")
    assert any(not torch.equal(value, alone.values[name]) for name, value in other.values.items())


def test_nothing_is_kept_for_nobody(fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path) -> None:
    job = make_job(fresh("plain"), data)
    fit_method("kim-ln", shrunk(RECIPES["kim-ln"]), job, tmp_path)
    assert job.begun == {}
