"""Pictures in batches, by a plan of (epoch, index): the same bytes whatever the number of workers."""

# B pictures of a batch, C colours, H height, W width.

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from likewise.data import views
from likewise.data.records import Split
from likewise.errors import DataError


class Batch(NamedTuple):
    """Pictures, class ids and places in the split of one batch."""

    pixels_BCHW: Tensor  # float32
    labels_B: Tensor  # int64
    index_B: Tensor  # int64, places in the split


class _Unread(NamedTuple):
    """A picture that could not be read, on its way from a worker: errors lose their type when they travel."""

    code: str
    message: str


class Pictures(TorchDataset[Any]):
    """A split as tensors. Item (epoch, index): the evaluation view for epoch < 0, else the training view.

    The training view is a function of (seed, epoch, index) only; `epoch` may be any count that does not repeat, such
    as the step when an image can come twice in an epoch.
    """

    def __init__(self, split: Split, spec: views.Spec, seed: int = 0) -> None:
        self.split, self.spec, self.seed = split, spec, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, at: tuple[int, int]) -> tuple[Tensor, int, int]:
        """pixels_CHW, label, index. Raises `DataError` D07 when the picture cannot be read."""
        epoch, index = at
        image = self.split.open(index)
        if epoch < 0:
            pixels_CHW = views.evaluate(image, self.spec)
        else:
            pixels_CHW = views.train(image, self.spec, (self.seed, epoch, index))
        return pixels_CHW, self.split.records[index].label, index

    def __getitems__(self, places: list[tuple[int, int]]) -> list[tuple[Tensor, int, int]] | _Unread:
        try:
            return [self[at] for at in places]
        except DataError as error:
            return _Unread(error.code, str(error))


def batches(pictures: Pictures, plan: Iterable[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:
    """The planned batches, in the plan's order; `workers` processes read ahead, 0 reads in this one.

    Raises `DataError` D07 when a picture cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        pictures,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_deaf if workers else None,
        generator=torch.Generator(),  # or the loader would move the global one
    )
    for batch in loader:
        if isinstance(batch, _Unread):
            raise DataError(batch.code, batch.message)
        yield batch


def _collate(items: list[tuple[Tensor, int, int]] | _Unread) -> Batch | _Unread:
    if isinstance(items, _Unread):
        return items
    pixels, labels, index = zip(*items, strict=True)
    return Batch(torch.stack(pixels), torch.tensor(labels, dtype=torch.int64), torch.tensor(index, dtype=torch.int64))


def _deaf(_: int) -> None:
    # a terminal sends its signals to the whole group; the parent alone decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
