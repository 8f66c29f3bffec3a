"""Pictures with holes: the tuned encoder says of them, with a caption's help, what the frozen one sees in the whole."""

# B pictures, C channels, D shared width, H height, S squares a side, U distinct texts, W width of a picture or feature.

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.data.batches import Batch
from likewise.encoder import Embedded, Encoder
from likewise.fit.compare import Comparison
from likewise.fit.work import Work
from likewise.keys import key_rng
from likewise.losses import Masked


class Guessing:
    """The masked loss of one stage."""

    def __init__(self, work: Work, loss: Masked, texts: Comparison) -> None:
        assert work.frozen is not None, "a stage with the masked loss needs the frozen encoder"
        self.work, self.frozen, self.masked, self.texts = work, work.frozen, loss, texts

    def loss(self, batch: Batch, when: tuple[int, int]) -> Tensor:
        """Mean over the batch; `when` is the epoch and the step."""
        encoder = self.work.encoder
        pixels_BCHW = batch.pixels_BCHW.to(encoder.device)
        with torch.no_grad():
            whole_BW = seen(self.frozen, pixels_BCHW)
            said_B1 = torch.from_numpy(self._said(batch, when)).to(encoder.device)[:, None]
            told_BD = self.texts.rows(batch, None, when[0]) * said_B1
        with encoder.telling(told_BD):
            guessed_BW = seen(encoder, torch.where(self._holes(batch, when).to(encoder.device), 0.0, pixels_BCHW))
        return (1 - F.cosine_similarity(guessed_BW.float(), whole_BW.float(), dim=1)).mean()

    def _said(self, batch: Batch, when: tuple[int, int]) -> np.ndarray:
        """1 for the pictures whose captions are told."""
        draw_B = key_rng(self.work.seed, "silent", when[1]).random(len(batch.labels_B))
        return np.asarray(draw_B >= self.masked.silent, dtype=np.float32)

    def _holes(self, batch: Batch, when: tuple[int, int]) -> Tensor:
        """Where each picture is grey, which is 0 once it is normalised: B1HW."""
        b, side = len(batch.labels_B), self.masked.squares
        count = round(self.masked.share * side * side)
        order_BS = key_rng(self.work.seed, "holes", when[1]).random((b, side * side)).argsort(1).argsort(1)
        hole_B1SS = torch.from_numpy(order_BS < count).reshape(b, 1, side, side)
        return F.interpolate(hole_B1SS.float(), batch.pixels_BCHW.shape[-2:], mode="nearest") > 0


def seen(encoder: Encoder, pixels_BCHW: Tensor) -> Tensor:
    """Features before the projection, or the shared ones of an encoder that has no others."""
    found: Embedded = encoder.image(pixels_BCHW)
    return found.shared_BD if found.pooled_BW is None else found.pooled_BW
