"""The cosine head that starts at the class texts: TaskRes, ZS-LP, the second stage of 2SFS, and CLAP."""

# B images, C classes, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.heads.anchored import Anchored, anchors, bank
from likewise.heads.head import Given, HeadConfig, HeadModule, unit
from likewise.heads.linear import text_end


class Cosine(HeadConfig):
    """logits_BC = scale * unit(features_BD) unit(text_CD + step * residual_CD)'; trains the residual, C D numbers.

    The residual starts at zero, where the scores are the text head's bit for bit. `step` 0.5 is TaskRes (Yu et al.
    2023, arXiv:2211.10277); 1 is the cosine classifier that starts at the texts, called ZS-LP in CLAP and
    stage two of 2SFS (Farina et al. 2025). `anchor` "clap" adds CLAP's pull to the texts (Silva-Rodriguez et al. 2024,
    arXiv:2312.12730), weighted per class by how sure the zero-shot head is of the class's own training pictures.

    Departs: the number that trains is the difference from the text, so weight decay pulls to the text and not to zero.
    CLAP: the mean over classes, as its code has it; no outer step of the augmented Lagrangian; and a class without
    training pictures has weight 1, the largest, where the paper's mean is 0 / 0: nothing speaks for leaving its text.
    """

    kind: Literal["cosine"] = "cosine"
    step: float = Field(1.0, gt=0)
    anchor: Literal["none", "clap"] = "none"
    path: ClassVar[bool] = True
    no_mean: ClassVar[str] = (
        "a cosine head brings each sum of text and residual to the text's length, so the mean of several residuals is "
        "not the mean of their rows"
    )

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        return {"residual": classes * encoder.shared_width}

    def build(self, given: Given) -> HeadModule:
        start = anchors(given)
        start["residual"] = torch.zeros_like(start["text_CD"])
        if self.anchor == "clap":
            features_ND, labels_N = bank(given, start["text_CD"].device)
            start["pull_C"] = sureness(F.linear(unit(features_ND), start["text_CD"], start["shift_C"]), labels_N)
        return CosineHead(start, self)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return CosineHead(tensors, self).to(encoder.device)


class CosineHead(Anchored):
    """`residual` is in lengths of a text row; `pull_C` are CLAP's weights."""

    pull_C: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], config: Cosine) -> None:
        super().__init__(tensors, config)
        self.step = config.step
        self.residual = nn.Parameter(tensors["residual"].detach().clone())
        self.pulled = config.anchor == "clap"
        if self.pulled:
            self.hold("pull_C", tensors["pull_C"])

    def forward(self, features_BD: Tensor) -> Tensor:
        return F.linear(unit(features_BD), self.rows(), self.shift_C)

    def rows(self) -> Tensor:
        """weight_CD: text plus residual, at the length of the text row, which is the scale."""
        length_C1 = self.text_CD.norm(dim=1, keepdim=True)
        sum_CD = self.text_CD + self.step * length_C1 * self.residual
        # One factor, exactly 1 where the residual is 0: dividing and multiplying apart would move the last bit.
        rows_CD: Tensor = sum_CD * (length_C1 / sum_CD.norm(dim=1, keepdim=True).clamp_min(1e-12))
        return rows_CD

    def penalty(self) -> Tensor | None:
        """CLAP's (1 / C) sum_c pull_c |step residual_c|^2, or None."""
        if not self.pulled:
            return None
        pulls_C: Tensor = self.pull_C * (self.step * self.residual).square().sum(1)
        return pulls_C.mean()

    def at(self, alpha: float, zero: HeadModule) -> HeadModule:
        """As in `HeadModule`: the residual times alpha, and the texts on their own line where the text tower moved."""
        assert isinstance(self.config, Cosine)
        weight_CD, shift_C = text_end(zero, self.text_CD)
        here = {
            "text_CD": torch.lerp(weight_CD, self.text_CD, alpha),
            "shift_C": torch.lerp(shift_C, self.shift_C, alpha),
            "residual": alpha * self.residual,
        }
        return CosineHead(self.state_dict() | here, self.config)


def sureness(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Per class the mean softmax probability of its own pictures; 1 for a class without any."""
    own_N: Tensor = logits_NC.softmax(1).gather(1, labels_N[:, None])[:, 0]
    hits_NC = F.one_hot(labels_N, logits_NC.shape[1]).to(own_N.dtype)
    count_C = hits_NC.sum(0)
    return torch.where(count_C > 0, own_N @ hits_NC / count_C.clamp_min(1), torch.ones_like(count_C))
