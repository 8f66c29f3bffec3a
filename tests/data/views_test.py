from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from likewise.data import views
from likewise.data.batches import Pictures, batches
from likewise.data.records import Record, Split
from likewise.errors import DataError
from likewise.keys import key_rng


@dataclass(frozen=True)
class Spec:
    image_size: int = 32
    mean: tuple[float, float, float] = (0.48, 0.45, 0.4)
    std: tuple[float, float, float] = (0.26, 0.25, 0.27)
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    crop: float = 1.0


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.Generator(np.random.PCG64(width * 1000 + height))
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


RESIZES: tuple[Any, ...] = ("shortest", "longest", "squash")
KINDS: tuple[Any, ...] = ("bicubic", "bilinear")


@pytest.mark.parametrize(("resize", "kind"), list(product(RESIZES, KINDS)))
def test_evaluation_view_is_open_clips_bit_for_bit(resize: Any, kind: Any) -> None:
    spec = Spec(resize=resize, interpolation=kind)
    theirs = image_transform(32, False, spec.mean, spec.std, resize_mode=resize, interpolation=kind)
    for width, height in [(32, 32), (33, 32), (61, 47), (17, 90), (200, 31), (8, 5), (1, 1), (1, 30), (101, 100)]:
        image = noise(width, height)
        ours_CHW = views.evaluate(image, spec)
        assert ours_CHW.shape == (3, 32, 32)
        assert torch.equal(ours_CHW, theirs(image)), (width, height)


def test_pictures_slimmer_than_open_clip_can_take_still_give_a_view() -> None:
    for resize in RESIZES:
        assert views.evaluate(noise(3000, 1), Spec(resize=resize)).shape == (3, 32, 32)


def test_palettes_are_interpolated_as_colours() -> None:
    two = noise(40, 40).quantize(7)
    spec = Spec(image_size=16)
    for view in (views.evaluate(two, spec), views.train(two, spec, (1, 2, 3))):
        pixels_CHW = (view * torch.tensor(spec.std).view(3, 1, 1) + torch.tensor(spec.mean).view(3, 1, 1)) * 255
        colours = {tuple(c) for c in pixels_CHW.round().int().flatten(1).T.tolist()}
        assert len(colours) > 7


def test_training_crop_is_in_the_published_range_and_keyed() -> None:
    width, height = 400, 300
    shares, ratios = [], []
    for i in range(1500):
        top, left, h, w = views.crop_box(width, height, key_rng("test", i))
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        assert 3 / 4 - 0.01 < w / h < 4 / 3 + 0.01
        shares.append(w * h / (width * height))
        ratios.append(w / h)
    assert 0.895 < min(shares) < 0.91
    blank = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(blank, [0.9, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(1500)]
    assert np.mean(shares) == pytest.approx(np.mean([w * h / (width * height) for h, w in drawn]), abs=0.004)
    assert np.mean(ratios) == pytest.approx(np.mean([w / h for h, w in drawn]), abs=0.01)
    assert views.crop_box(10, 1000, key_rng(0)) == (493, 0, 13, 10)  # nothing fits: the middle, as torchvision
    image, spec = noise(40, 36), Spec()
    assert torch.equal(views.train(image, spec, (0, 1, 2)), views.train(image, spec, (0, 1, 2)))
    assert not torch.equal(views.train(image, spec, (0, 1, 2)), views.train(image, spec, (0, 1, 3)))


def test_training_crop_is_not_flipped() -> None:
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (100, 1, 3))
    for i in range(30):
        row_W = views.train(Image.fromarray(ramp), Spec(), (0, 0, i))[0, 16]
        assert row_W[-1] > row_W[0]


@pytest.fixture
def split(tmp_path: Path, draw: Callable[..., Image.Image]) -> Split:
    for i in range(9):
        draw(i, 40).save(tmp_path / f"{i}.png")
    return Split("train", "train", tuple(Record(f"{i}.png", i % 3, tmp_path / f"{i}.png") for i in range(9)))


def test_batches_are_the_same_bytes_with_and_without_workers(split: Split) -> None:
    plan = [[(0, 3), (0, 1)], [(-1, 8), (1, 3), (2, 3)], [(-1, 0)]]
    state = torch.random.get_rng_state()
    runs = [list(batches(Pictures(split, Spec(), seed=5), plan, workers)) for workers in (0, 2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    for here, there in zip(*runs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    first, second, _ = runs[0]
    assert [b.index_B.tolist() for b in runs[0]] == [[3, 1], [8, 3, 3], [0]]
    assert second.labels_B.tolist() == [2, 0, 0]
    assert second.labels_B.dtype == torch.int64
    assert torch.equal(first.pixels_BCHW[0], views.train(split.open(3), Spec(), (5, 0, 3)))
    assert torch.equal(second.pixels_BCHW[0], views.evaluate(split.open(8), Spec()))
    assert not torch.equal(second.pixels_BCHW[1], second.pixels_BCHW[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_stops_with_its_name_also_from_a_worker(split: Split, workers: int) -> None:
    split.records[4].path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png") as caught:
        list(batches(Pictures(split, Spec()), [[(0, 1)], [(0, 3), (0, 4)]], workers))
    assert caught.value.code == "D07"


class Ears(Pictures):
    """Its label says whether the process that reads is deaf to signals."""

    def __getitem__(self, at: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        handlers = {signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        return torch.zeros(1), int(handlers == {signal.SIG_IGN}), at[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_leave_signals_to_their_parent(split: Split, workers: int) -> None:
    (batch,) = batches(Ears(split, Spec()), [[(0, 1)]], workers)
    assert batch.labels_B.tolist() == [workers]
