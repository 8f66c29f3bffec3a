"""LP++: a linear probe that blends in the class texts, and its solver. Huang et al. 2024, arXiv:2404.02285."""

# B images, C classes, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.heads.anchored import Anchored, anchors, bank
from likewise.heads.head import Given, HeadConfig, HeadModule, unit
from likewise.heads.linear import text_end

BLEND = 250.0
"""Factor of the blend's start, from the authors' code."""
EVERY = 10
"""Epochs from one step of the blend to the next."""


class LpPlus(HeadConfig):
    """logits_bc = f_b . (weight_c + blend_c t_c), features and texts at unit length; C D + C numbers.

    `weight` starts at the class means of the training features, `blend` at 250 times the mean, over classes, of their
    pictures' mean cosine with the class text. A class without training pictures starts at zero and is left out of the
    mean. `steps` solves for both.

    Departs: class means (the authors' code starts at the classes' sums); no bias (their code has C of them).
    """

    kind: Literal["lp++"] = "lp++"
    path: ClassVar[bool] = True
    no_mean: ClassVar[str] = (
        "an LP++ head multiplies its blend with the class texts of its own training, so the mean of several blends is "
        "not the mean of their rows"
    )

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        return {"weight": classes * encoder.shared_width, "blend": classes}

    def build(self, given: Given) -> HeadModule:
        start = anchors(given)
        features_ND, labels_N = bank(given, start["text_CD"].device)
        start["weight"], count_C = class_means(unit(features_ND), labels_N, len(start["text_CD"]))
        # A class's mean cosine with its text is that of its mean feature.
        cosine_C = (start["weight"] * unit(start["text_CD"])).sum(1)[count_C > 0]
        start["blend"] = (BLEND * cosine_C.mean()).expand(len(count_C))
        return LpPlusHead(start, self)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return LpPlusHead(tensors, self).to(encoder.device)


class LpPlusHead(Anchored):
    """`weight` is C x D, `blend` C."""

    def __init__(self, tensors: Mapping[str, Tensor], config: LpPlus) -> None:
        super().__init__(tensors, config)
        self.weight = nn.Parameter(tensors["weight"].detach().clone())
        self.blend = nn.Parameter(tensors["blend"].detach().clone())

    def forward(self, features_BD: Tensor) -> Tensor:
        return F.linear(unit(features_BD), self.rows(), self.shift_C)

    def rows(self) -> Tensor:
        """rows_CD: weight and blended texts in one."""
        return self.weight + self.blend[:, None] * unit(self.text_CD)

    def at(self, alpha: float, zero: HeadModule) -> HeadModule:
        """As in `HeadModule`: the line of the rows. The new head has them all in `weight`, and a blend of 0."""
        assert isinstance(self.config, LpPlus)
        weight_CD, shift_C = text_end(zero, self.text_CD)
        here = {
            "text_CD": self.text_CD,
            "shift_C": torch.lerp(shift_C, self.shift_C, alpha),
            "weight": torch.lerp(weight_CD, self.rows(), alpha),
            "blend": torch.zeros_like(self.blend),
        }
        return LpPlusHead(here, self.config)


def class_means(features_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(means_CD, count_C): mean feature and number of pictures per class; zeros for a class without any."""
    hits_NC = F.one_hot(labels_N, classes).to(features_ND.dtype)
    count_C = hits_NC.sum(0)
    return hits_NC.T @ features_ND / count_C.clamp_min(1)[:, None], count_C


def steps(
    head: LpPlusHead, features_ND: Tensor, labels_N: Tensor, epochs: int, momentum: float = 0.9
) -> Iterator[float]:
    """Full-batch block-coordinate descent on the mean cross-entropy; the loss after each epoch.

    Steps are the inverse curvature bounds that the data give: 4 N / lambda_max(F'F) for the weight, with momentum;
    N / (4 max_c sum_i (f_i . t_c)^2) for the blend, every tenth epoch, after the weight's. Without momentum the loss
    never rises. The head changes in place.

    Departs: the blend's gradient is that of its own step; the authors' code never clears it, so it sums all epochs'.
    """
    device = head.weight.device
    unit_ND, labels_N = unit(features_ND.detach().to(device)), labels_N.to(device)
    text_NC = unit_ND @ unit(head.text_CD).T
    weight_rate, blend_rate = rates(unit_ND, text_NC)
    velocity_CD = torch.zeros_like(head.weight)
    for epoch in range(1, epochs + 1):
        with torch.no_grad():  # closed before each yield: the mode would leak to whoever asks
            velocity_CD = momentum * velocity_CD + _error(head, unit_ND, labels_N).T @ unit_ND
            head.weight.sub_(weight_rate * velocity_CD)
            if epoch % EVERY == 0:
                head.blend.sub_(blend_rate * (_error(head, unit_ND, labels_N) * text_NC).sum(0))
            loss = F.cross_entropy(head(unit_ND), labels_N).item()
        yield loss


def rates(unit_ND: Tensor, text_NC: Tensor) -> tuple[float, float]:
    """The step sizes of weight and blend, from unit features and their cosines with the texts."""
    n, d = unit_ND.shape
    gram = unit_ND.double().cpu()
    gram = gram.T @ gram if d <= n else gram @ gram.T  # the same largest eigenvalue
    top = torch.linalg.eigvalsh(gram)[-1].item()
    return 4 * n / top, n / (4 * text_NC.square().sum(0).max().item())


def _error(head: LpPlusHead, unit_ND: Tensor, labels_N: Tensor) -> Tensor:
    """error_NC: the mean cross-entropy's gradient in the logits."""
    error_NC: Tensor = head(unit_ND).softmax(1)
    error_NC[torch.arange(len(labels_N), device=labels_N.device), labels_N] -= 1
    return error_NC.div_(len(labels_N))
