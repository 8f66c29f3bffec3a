"""Carried: what was saved answers the same, bit for bit, on a fresh base in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from likewise.predict import Predictions, predict
from likewise.recipes import RECIPES
from likewise.run.artifact import save_model
from likewise.run.reading import ask
from likewise.run.tuned import point, points
from vision import ON_VISION

FRESH = """
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny import make_job, shrunk, write_data
from vision import PAIRS, pair_at

from likewise.encoders import load
from likewise.predict import features, head_logits, predict
from likewise.recipes import RECIPES
from likewise.run.artifact import Predictor
from likewise.run.method import fit_method
from likewise.run.tuned import points

stones, laws, out = (Path(p) for p in sys.argv[2:5])
data = write_data(stones / "data")
jobs = {}
for at in sys.argv[5:]:
    kind, name = at.split(":")
    if kind not in jobs:
        found = pair_at(stones, kind) if kind in PAIRS else load(f"local-dir:{stones / 'encoders' / kind}")
        jobs[kind] = make_job(found, data)
    if (out / kind / name / "model").exists():
        predictor = Predictor.load(out / kind / name / "model")
        reads = predictor.head.config.reads
        said = head_logits(predictor.head, features(predictor.encoder, data.select, reads), data.select)
        said.write(out / kind / name / "loaded.safetensors")
        print(kind, name, *predictor.predict([data.select.records[0].path], topk=2)[0].names)
    tuned = fit_method(name, shrunk(RECIPES[name]), jobs[kind], laws / kind / name)
    (said,) = predict(jobs[kind].encoder, list(points(tuned, jobs[kind], [1.0]).values()), data.select)
    said.write(out / kind / name / "carried.safetensors")
"""

AT = [*((kind, name) for kind in ("plain", "icon") for name in RECIPES), *ON_VISION]
"""Every recipe, as what training left of it is read again, on open_clip's own tower and on timm's; those for captions
on vision encoders too."""
PLAIN = {"ln", "lp-ft", "flyp", "knn", "zero-shot", "lora", "2sfs", "cross-modal", "ft-lines"}
"""Recipes whose model is weights and a linear or a neighbours head."""
ADDED = {
    "houlsby": {"bottleneck"}, "vpt-deep": {"visual-prompt"}, "maple": {"maple"}, "film-blocks": {"film"},
    "cocoop": {"prompt"}, "kim-adapter": {"bottleneck"}, "coop-classes": {"prompt"},
    "kim-joint-compacter": {"compacter"},
}  # fmt: skip
"""Recipes whose model has something that does not fold into weights."""
HEADS = {"tip-adapter", "tip-adapter-f", "lp++", "clip-adapter", "taskres", "clap", "linear-pooled", "kim-init-probe"}
"""Recipes with another head, or another place for it."""
SAVED = [("plain", name) for name in (*PLAIN, *ADDED, *HEADS)]
SAVED += [("icon", name) for name in ("ln", "lp-ft", "flyp", "houlsby", "vpt-deep", "film-blocks")]
"""Of which the whole model is saved and loaded, too: each kind of head and of what is added; on timm's tower, whose
models are 14 MB, what writes another part of it."""


def save(run: Any, folder: Path) -> None:
    """The model that training left, as a run keeps it."""
    there = point(run.tuned, run.job, 1.0 if run.recipe.merge else None)
    assert {name.split(".")[1] for name in there.added} == ADDED.get(run.name, set())
    assert {adapter.kind for adapter in there.adapters} == ADDED.get(run.name, set())
    before = run.job.encoder.state(list(there.values))
    run.job.encoder.put(there.values)
    card = {"classes": run.job.data.classes.tree(), "templates": [], "method": run.name, "alpha": None,
            "adapters": [adapter.tree() for adapter in there.adapters]}  # fmt: skip
    save_model(folder, run.job.encoder, there.head, card, there.added)
    run.job.encoder.put(before)


def test_carried(trained: Callable[[str, str], Any], stones: Path, tmp_path: Path) -> None:
    said, best = {}, []
    for kind, name in AT:
        run = trained(kind, name)
        (candidate,) = points(run.tuned, run.job, [1.0]).values()
        (said[kind, name],) = predict(run.job.encoder, [candidate], run.job.data.select)
        assert np.isfinite(said[kind, name].logits_NC).all()
        # asked in company, where features are shared, it says the same
        (asked,) = ask(run.job, {name: {1.0: candidate}}, run.job.data.select).values()
        np.testing.assert_array_equal(asked.logits_NC, said[kind, name].logits_NC, err_msg=name)
        if (kind, name) in SAVED:
            save(run, tmp_path / kind / name / "model")
            top = said[kind, name].logits_NC[0].argsort()[::-1][:2]
            best.append(" ".join([kind, name, *(run.job.data.classes.names[i] for i in top)]))
    assert set(said) == set(AT) >= set(SAVED)
    laws = trained("plain", "ln").folder.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(Path(__file__).parents[1]), str(stones), str(laws), str(tmp_path),
         *(":".join(pair) for pair in AT)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for kind, name in AT:
        files = [tmp_path / kind / name / "carried.safetensors"]
        files += [tmp_path / kind / name / "loaded.safetensors"] if (kind, name) in SAVED else []
        for path in files:
            back = Predictions.read(path)
            np.testing.assert_array_equal(back.logits_NC, said[kind, name].logits_NC, err_msg=str(path))
    assert done.stdout.splitlines() == best
