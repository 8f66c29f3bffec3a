"""Pictures compared with texts: rows of the text tower, computed once where it is held, and the losses over them."""

# B images, C classes, D shared width, K texts of the bank, U distinct texts, of the data or of a batch.

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from torch import Tensor

from likewise.data.batches import Batch
from likewise.data.order import choose
from likewise.errors import ConfigError
from likewise.fit.told import Told
from likewise.fit.work import Work
from likewise.heads import class_texts, encode
from likewise.keys import key_rng
from likewise.losses import Bank, Contrastive, CrossEntropy, Loss, Sigmoid, contrastive, sigmoid
from likewise.names import Plan, tower_of


def check_bank(loss: Loss, plan: Plan) -> None:
    """Raises `ConfigError` where features of texts would be kept though the tower that made them trains."""
    if isinstance(loss, Contrastive | Sigmoid) and loss.bank and not plan.text_constant:
        moved = next(name for name in plan.trains if tower_of(name) in ("text", "both"))
        raise ConfigError(
            f"loss.bank keeps texts' features from step to step, but {moved} trains, so they would be those of a "
            "tower that is gone. Set loss.bank=0, or leave the text tower out of what trains."
        )


class Comparison:
    """The texts of one stage.

    Computed once are `rows_CD` of classes or `rows_UD` of distinct texts, where the text tower is held, and `seen_CD`,
    the class rows that stand in the place of pictures, where the loss asks for these; None elsewhere.
    """

    def __init__(self, work: Work, plan: Plan) -> None:
        self.work = work
        self.told = Told(work.captions, work.kin)
        self.tokens_UL = self.told.tokens(work.encoder)
        loss = work.stage.loss
        self.rows_CD = self.rows_UD = self.seen_CD = None
        if isinstance(loss, CrossEntropy):
            if (work.head is None and plan.text_constant) or loss.texts:
                self.rows_CD = class_texts(work.encoder, work.captions)
                self.seen_CD = self.rows_CD if loss.texts else None
        elif plan.text_constant:
            self.rows_UD = self._all()
        check_bank(loss, plan)

    @torch.no_grad()
    def _all(self) -> Tensor:
        work = self.work
        rows_UD = work.rows(self.told.texts) if work.rows else encode(work.encoder, self.tokens_UL.to(self.device))
        return rows_UD.to(self.device)

    @property
    def device(self) -> torch.device:
        return self.work.encoder.device

    def logits(self, image_BD: Tensor, step: int) -> Tensor:
        """logits_BC of unit rows, against one text of each class."""
        encoder = self.work.encoder
        if self.rows_CD is not None:
            return encoder.scale * image_BD @ self.rows_CD.T + encoder.shift  # scale and shift may train
        # One template a class and step, drawn by key: every class text is encoded with gradient (FLYP-CE, Kim).
        class_C = np.arange(len(self.told))
        code_C = self.told.code(class_C, choose(self.work.seed, step, class_C, self.told.counts_C))
        rows_CD = encode(encoder, self.tokens_UL[torch.from_numpy(code_C)].to(self.device))
        return encoder.scale * image_BD @ rows_CD.T + encoder.shift

    def loss(self, image_BD: Tensor, batch: Batch, number_B: np.ndarray | None, when: tuple[int, int]) -> Tensor:
        """The stage's loss of unit rows against a text for each picture: `number_B`, or drawn by key.

        `when` is the epoch and the step.
        """
        loss, encoder, (epoch, step) = self.work.stage.loss, self.work.encoder, when
        assert isinstance(loss, Contrastive | Sigmoid)
        code_U, which_B = np.unique(self._codes(batch, number_B, epoch), return_inverse=True)
        own = frozenset(code_U.tolist())
        text_UD = self._rows(torch.from_numpy(code_U))
        kin_U, which = torch.from_numpy(self.told.kin_U[code_U]), torch.from_numpy(which_B)
        kin_U, which, bank = kin_U.to(self.device), which.to(self.device), self._bank(loss.bank, step, own)
        if isinstance(loss, Contrastive):
            return contrastive(image_BD, text_UD, which, kin_U, encoder.scale, loss.collisions, bank)
        bank = bank or Bank(text_UD[:0], kin_U[:0])
        score_BU, score_BK = (
            encoder.scale * image_BD @ rows.T + encoder.shift for rows in (text_UD.float(), bank.text_KD.float())
        )
        return sigmoid(score_BU, which, kin_U, loss.collisions, score_BK, bank.kin_K)

    def rows(self, batch: Batch, number_B: np.ndarray | None, epoch: int) -> Tensor:
        """The unit row of a text of each picture, as row_BD: `number_B`, or drawn by key."""
        return self._rows(torch.from_numpy(self._codes(batch, number_B, epoch)))

    def _codes(self, batch: Batch, number_B: np.ndarray | None, epoch: int) -> np.ndarray:
        class_B = batch.labels_B.cpu().numpy()
        if number_B is None:
            number_B = choose(self.work.seed, epoch, batch.index_B.numpy(), self.told.counts_C[class_B])
        return self.told.code(class_B, number_B)

    def _rows(self, code_U: Tensor) -> Tensor:
        if self.rows_UD is not None:
            return self.rows_UD[code_U]
        return encode(self.work.encoder, self.tokens_UL[code_U].to(self.device))

    def _bank(self, size: int, step: int, own: Container[int]) -> Bank | None:
        """Further texts by key; those of the batch, its `own`, are there already."""
        if not size:
            return None
        assert self.rows_UD is not None, "a bank without constant rows is refused at the start"
        texts = len(self.rows_UD)
        drawn_K = key_rng(self.work.seed, "bank", step).choice(texts, min(size, texts), replace=False)
        code_K = np.array([code for code in drawn_K.tolist() if code not in own], dtype=np.int64)
        return Bank(self.rows_UD[torch.from_numpy(code_K)], torch.from_numpy(self.told.kin_U[code_K]).to(self.device))
