"""Tip-Adapter: a cache of the training pictures beside the class texts. Zhang et al. 2022, arXiv:2207.09519."""

# A alphas, B images, C classes, D shared width, E betas, N training pictures, S select pictures.

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.heads.anchored import Anchored, anchors, bank
from likewise.heads.head import Given, HeadConfig, HeadModule, unit

CHUNK = 256
"""Select pictures that are scored together at all alphas."""


class Tip(HeadConfig):
    """logits_BC = scale * f text_CD' + alpha * exp(-beta (1 - f keys_ND')) onehot_NC, with f = unit(features_BD).

    The keys are the training pictures' unit features. Nothing trains; `tuned` is Tip-Adapter-F, which trains the keys,
    N D numbers (8,192,000 for ImageNet with 16 shots and D = 512), at alpha 1 and beta 5.5. Afterwards `choose` takes
    alpha and beta from the grid by accuracy on the select split; with alpha 0 among them, that may be no cache at all.

    Departs: keys in the evaluation view, not the mean of ten random crops; a grid of even ratios, one for all data,
    instead of 200 x 20 even steps in bounds set per data set. The authors' code also kept the epoch of Tip-Adapter-F
    that was best on the test set (their issue 11); here no choice sees a report split.
    """

    kind: Literal["tip"] = "tip"
    tuned: bool = False
    alphas: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (
        0.0, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0,
    )  # fmt: skip
    betas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0,
    )  # fmt: skip
    refuses: ClassVar[str] = (
        "a Tip-Adapter adds a cache to the text head's scores and chooses the cache's factor itself, on the select "
        "split; there are no weights to interpolate"
    )
    no_mean: ClassVar[str] = (
        "a Tip-Adapter's scores are exponentials of its keys, and each training chooses its own alpha and beta for "
        "them, so the mean of several keys goes with none of these"
    )

    @property
    def kept(self) -> bool:  # type: ignore[override]
        return not self.tuned

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        return {"keys": pictures * encoder.shared_width} if self.tuned else {}

    def build(self, given: Given) -> HeadModule:
        start = anchors(given)
        features_ND, labels_N = bank(given, start["text_CD"].device)
        factors = {"alpha": torch.tensor(1.0), "beta": torch.tensor(5.5)}
        tensors = {**start, "keys": unit(features_ND), "labels_N": labels_N, **factors}
        return TipHead(tensors, self).to(given.encoder.device)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return TipHead(tensors, self).to(encoder.device)


class TipHead(Anchored):
    """`keys` is N x D, of unit length only until it trains; `alpha` and `beta` are buffers."""

    keys: Tensor
    labels_N: Tensor
    onehot_NC: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], config: Tip) -> None:
        super().__init__(tensors, config)
        self.grid = sorted(config.alphas), sorted(config.betas)
        if config.tuned:
            self.keys = nn.Parameter(tensors["keys"].detach().clone())
        else:
            self.hold("keys", tensors["keys"])
        self.hold("labels_N", tensors["labels_N"].long())
        self.hold("alpha", tensors["alpha"])
        self.hold("beta", tensors["beta"])
        onehot_NC = F.one_hot(self.labels_N, len(self.text_CD)).float()
        self.register_buffer("onehot_NC", onehot_NC, persistent=False)

    @property
    def keeps(self) -> int:
        return self.keys.numel()

    def forward(self, features_BD: Tensor) -> Tensor:
        unit_BD = unit(features_BD)
        return self._text(unit_BD) + self.alpha * self._cache(1 - unit_BD @ self.keys.T, self.beta)

    def _text(self, unit_BD: Tensor) -> Tensor:
        return F.linear(unit_BD, self.text_CD, self.shift_C)

    def _cache(self, far_BN: Tensor, beta: Tensor) -> Tensor:
        return (-beta * far_BN).exp() @ self.onehot_NC

    @torch.no_grad()
    def choose(self, select_ND: Tensor, labels_N: Tensor) -> dict[str, float]:
        """Keep the (alpha, beta) of the grid with the best accuracy; of equals the smaller alpha, then beta."""
        device = self.text_CD.device
        alpha_A, beta_E = (torch.tensor(values, device=device) for values in self.grid)
        right_AE = torch.zeros(len(alpha_A), len(beta_E), dtype=torch.long)
        for part_SD, labels_S in zip(select_ND.split(CHUNK), labels_N.to(device).split(CHUNK), strict=True):
            unit_SD = unit(part_SD.to(device))
            text_SC, far_SN = self._text(unit_SD), 1 - unit_SD @ self.keys.T
            for e, beta in enumerate(beta_E):
                logits_ASC = text_SC + alpha_A[:, None, None] * self._cache(far_SN, beta)
                right_AE[:, e] += (logits_ASC.argmax(2) == labels_S).sum(1).cpu()
        counts = right_AE.flatten().tolist()
        a, e = divmod(counts.index(max(counts)), len(beta_E))
        self.alpha.copy_(alpha_A[a])
        self.beta.copy_(beta_E[e])
        return {"alpha": self.grid[0][a], "beta": self.grid[1][e]}
