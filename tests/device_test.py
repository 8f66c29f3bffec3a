"""The device that is asked for is where the encoder goes, in every job; one that is not there is told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import likewise as lw
from likewise.cli import run as cli
from likewise.data.captions import Pairs, from_classes
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import MachineError
from likewise.recipe import Machine
from likewise.recipes import RECIPES, for_captions
from likewise.run import again, caption_again
from likewise.run.watch import Watch
from tiny import shrunk, write_data

HERE = Machine(device="cpu:0")
"""The CPU by another name: what is moved on purpose is moved to this one."""


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that were moved to `HERE`'s device."""
    seen: list[nn.Module] = []
    plain = nn.Module.to

    def spy(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        if args and str(args[0]) == HERE.device:
            seen.append(module)
        return plain(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "to", spy)
    return seen


@pytest.fixture(scope="module")
def pairs(stones: Path) -> Pairs:
    return from_classes(write_data(stones / "data"), ("{}.",))


@pytest.fixture(scope="module")
def tuned(
    fresh: Callable[[str], Encoder], stones: Path, pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    recipes = {"caption-ln": shrunk(for_captions("ln")[1])}
    out = tmp_path_factory.mktemp("device") / "captions"
    return lw.caption(fresh("with-vit"), pairs, recipes, write_data(stones / "data"), out, alphas=(0.0, 1.0)).path


@pytest.fixture(scope="module")
def adapted(fresh: Callable[[str], Encoder], stones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipes = {"ln": shrunk(RECIPES["ln"])}
    out = tmp_path_factory.mktemp("device") / "adapt"
    return lw.adapt(fresh("plain"), write_data(stones / "data"), recipes, out).path


def is_encoder(module: nn.Module) -> bool:
    return sum(p.numel() for p in module.parameters()) > 10_000


def test_jobs_move_the_encoder_before_anything_else(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path, moved: list[nn.Module]
) -> None:
    encoder = fresh("plain")
    lw.adapt(encoder, data, {"zero-shot": RECIPES["zero-shot"]}, tmp_path / "a", machine=HERE)
    assert encoder.module in moved
    pair = fresh("with-vit")
    recipes = {"caption-ln": shrunk(for_captions("ln")[1])}
    lw.caption(pair, pairs, recipes, data, tmp_path / "c", machine=HERE, alphas=(0.0, 1.0))
    assert pair.module in moved


def test_going_back_moves_what_it_loads(adapted: Path, tuned: Path, data: Dataset, moved: list[nn.Module]) -> None:
    for look in (
        lambda: again.interpolate(adapted, (0.5,), HERE, Watch()),
        lambda: again.evaluate(adapted, data.read_report("a test"), HERE),
        lambda: caption_again.interpolate(tuned, (0.5,), HERE, Watch()),
        lambda: caption_again.judge(tuned, data, HERE, Watch()),
    ):
        moved.clear()
        look()
        assert any(is_encoder(module) for module in moved)


def test_a_device_that_is_not_there_is_told_before_anything_is_written(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, adapted: Path, tuned: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cuda, recipes = Machine(device="cuda"), {"caption-ln": shrunk(for_captions("ln")[1])}
    for job in (
        lambda: lw.adapt(fresh("plain"), data, {"zero-shot": RECIPES["zero-shot"]}, tmp_path / "x", machine=cuda),
        lambda: lw.caption(fresh("with-vit"), pairs, recipes, data, tmp_path / "x", machine=cuda),
        lambda: again.interpolate(adapted, (0.5,), cuda, Watch()),
        lambda: again.evaluate(adapted, data.read_report("a test"), cuda),
        lambda: caption_again.interpolate(tuned, (0.5,), cuda, Watch()),
        lambda: caption_again.judge(tuned, data, cuda, Watch()),
    ):
        with pytest.raises(MachineError, match="torch sees no CUDA device here"):
            job()
    assert not (tmp_path / "x").exists()
    for run in (adapted, tuned):
        for words in (["eval", str(run), "digits"], ["interpolate", str(run)]):
            assert cli([*words, "--device", "cuda"]) == 3
            assert "--device cuda: torch sees no CUDA device here. Use --device cpu" in capsys.readouterr().err
