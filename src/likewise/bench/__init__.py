"""Suites run cell by cell: a cell is a run folder, only missing ones run, what fails is kept with its reason."""

from __future__ import annotations

from likewise.bench.cells import State, pick, shard, state
from likewise.bench.engines import ENGINES, bench
from likewise.bench.table import Line, checks, lines, markdown

__all__ = ["ENGINES", "Line", "State", "bench", "checks", "lines", "markdown", "pick", "shard", "state"]
