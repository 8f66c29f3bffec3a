"""Resumed, the hard way: processes killed at any moment, or asked to stop, end as a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the bench forks warm children")
def test_killed_and_stopped_runs_end_as_undisturbed_ones() -> None:
    # One process imports torch; the runs are its children. `kill_resume.py --kills 20` is the long form.
    done = subprocess.run(
        [sys.executable, str(BENCH), "--kills", "4", "--terms", "1", "--seed", "1"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["differ"] == []
    assert found["equal"] is True
    assert (found["kills"], found["terms"]) == (4, 1)
    assert found["compared"] > 20  # methods' weights, journals, plans and predictions; results; the adapted model
    assert done.returncode == 0
