"""A folder of somebody's pictures, untouched: scikit-learn's digits as PNGs, no val, no test, names that are codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from likewise.cli import run


def test_the_probe_reads_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = load_digits()
    for number, (pixels_HW, label) in enumerate(zip(digits.images[:1000], digits.target[:1000], strict=True)):
        path = tmp_path / "digits" / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 - pixels_HW * 255 / 16).astype(np.uint8)).save(path)
    out = tmp_path / "run"
    assert run(["adapt", str(tmp_path / "digits"), "-o", str(out), "--methods", "linear", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    probe = next(
        r
        for r in rows
        if r["method"] == "linear" and r["alpha"] == 1 and r["split"] == "report" and r["metric"] == "accuracy"
    )
    assert probe["n"] >= 140
    assert probe["value"] > 0.9
    warned = [w["code"] for w in json.loads((out / "data" / "audit.json").read_text())["warnings"]]
    assert "D09" in warned  # 0, 1, 2 are not words that a text tower can read
