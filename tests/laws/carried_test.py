"""Carried: what was saved answers the same, bit for bit, on a fresh base in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise.predict import Predictions, predict
from likewise.recipes import RECIPES
from likewise.run.artifact import save_model
from likewise.run.method import points

FRESH = """
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny import make_job, shrunk, write_data

from likewise.encoders import load
from likewise.predict import Candidate, predict
from likewise.recipes import RECIPES
from likewise.run.artifact import Predictor
from likewise.run.method import fit_method, points

stones, laws, out = (Path(p) for p in sys.argv[2:5])
data = write_data(stones / "data")
for at in sys.argv[5:]:
    kind, name = at.split(":")
    job = make_job(load(f"local-dir:{stones / 'encoders' / kind}"), data)
    if (out / kind / name / "model").exists():
        predictor = Predictor.load(out / kind / name / "model")
        (said,) = predict(predictor.encoder, [Candidate({}, predictor.head)], data.select)
        said.write(out / kind / name / "loaded.safetensors")
        print(kind, name, *predictor.predict([data.select.records[0].path], topk=2)[0].names)
    tuned = fit_method(name, shrunk(RECIPES[name]), job, laws / kind / name)
    (said,) = predict(job.encoder, list(points(tuned, job, [1.0]).values()), data.select)
    said.write(out / kind / name / "carried.safetensors")
"""


def test_carried(trained: Callable[[str, str], Any], stones: Path, tmp_path: Path) -> None:
    at = [("plain", name) for name in RECIPES] + [("icon", "ln"), ("icon", "lp-ft"), ("icon", "flyp")]
    whole = {"ln", "lp-ft", "flyp", "knn", "zero-shot"}
    said, best = {}, []
    for kind, name in at:
        run = trained(kind, name)
        (candidate,) = points(run.tuned, run.job, [1.0]).values()
        (said[kind, name],) = predict(run.job.encoder, [candidate], run.job.data.select)
        if name in whole:
            before = run.job.encoder.state()
            run.job.encoder.put(run.tuned.values)
            card = {"classes": run.job.data.classes.tree(), "templates": [], "method": name, "alpha": None}
            save_model(tmp_path / kind / name / "model", run.job.encoder, candidate.head, card)
            run.job.encoder.put(before)
            top = said[kind, name].logits_NC[0].argsort()[::-1][:2]
            best.append(" ".join([kind, name, *(run.job.data.classes.names[i] for i in top)]))
    laws = trained("plain", "ln").folder.parents[1]
    arguments = [
        str(Path(__file__).parents[1]),
        str(stones),
        str(laws),
        str(tmp_path),
        *(":".join(pair) for pair in at),
    ]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for kind, name in at:
        files = [tmp_path / kind / name / "carried.safetensors"]
        files += [tmp_path / kind / name / "loaded.safetensors"] if name in whole else []
        for path in files:
            back = Predictions.read(path)
            np.testing.assert_array_equal(back.logits_NC, said[kind, name].logits_NC, err_msg=str(path))
    assert done.stdout.splitlines() == best
    assert all(torch.isfinite(torch.from_numpy(one.logits_NC)).all() for one in said.values())
