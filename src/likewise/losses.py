"""What a step minimises: cross-entropy, the contrastive loss on class captions, and the pull to the start (L2-SP)."""

# B images, C classes, D shared width, U distinct (caption, class) pairs in a batch.

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from likewise.config import Config


class CrossEntropy(Config):
    """Softmax cross-entropy over the classes, plus `l2_sp` times the squared distance from the start.

    L2-SP: Li et al. 2018, arXiv:1802.01483, equation 3, in the form of LP-FT's code: not halved, and the head is
    pulled to its start too. "1/shots": one over the training pictures of a class (ProLIP, Fahes et al. 2024,
    arXiv:2410.05270). `texts`: half of every batch are class texts in the place of pictures (cross-modal adaptation,
    Lin et al. 2023, arXiv:2301.06267).
    """

    kind: Literal["cross-entropy"] = "cross-entropy"
    smoothing: float = Field(0.0, ge=0, lt=1)
    l2_sp: Annotated[float, Field(ge=0)] | Literal["1/shots"] = 0.0
    texts: bool = False
    couples_batch: ClassVar[bool] = False


class Contrastive(Config):
    """Symmetric InfoNCE of pictures and captions of their classes (Goyal et al. 2023, arXiv:2212.00638, section 3).

    `collisions` says what two pictures of one class in a batch are to each other: `none`, negatives, as published (m
    equal captions cost at least log m); `mask`, nothing; `soft`, positives of equal weight. `clamp` keeps the scale at
    100 or below, as CLIP was trained; FLYP's code does not.
    """

    kind: Literal["contrastive"] = "contrastive"
    collisions: Literal["none", "mask", "soft"] = "none"
    clamp: bool = True
    couples_batch: ClassVar[bool] = True


Loss = Annotated[CrossEntropy | Contrastive, Field(discriminator="kind")]


def cross_entropy(logits_BC: Tensor, labels_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean softmax cross-entropy of labels_B, in fp32, with label smoothing (Szegedy et al. 2016, section 7)."""
    return F.cross_entropy(logits_BC.float(), labels_B, label_smoothing=smoothing)


def pull(now: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """The sum of squared differences from the start, over all named tensors."""
    return torch.stack([(now[name] - start[name]).square().sum() for name in start]).sum()


def contrastive(
    image_BD: Tensor,
    text_UD: Tensor,
    which_B: Tensor,
    class_U: Tensor,
    scale: Tensor,
    collisions: Literal["none", "mask", "soft"] = "none",
) -> Tensor:
    """The mean of both directions' cross-entropies over a batch whose captions repeat.

    `image_BD` and `text_UD` have unit rows; sample j's caption is row `which_B[j]`, of class `class_U[which_B[j]]`.
    The same number as the B x B form with repeated columns, in B x U: a caption that occurs m times enters the sums
    with weight m, and the backward pass is matrix products only.
    """
    b, u = len(image_BD), len(text_UD)
    score_BU = scale * image_BD.float() @ text_UD.float().T
    count_U = torch.bincount(which_B, minlength=u).to(score_BU.dtype)
    own_B = score_BU.gather(1, which_B[:, None])[:, 0]
    class_B = class_U[which_B]
    same_BU = class_B[:, None] == class_U[None, :]
    if collisions == "mask":
        elsewhere_BU = score_BU.masked_fill(same_BU, float("-inf"))
        to_text_B = torch.logaddexp(own_B, torch.logsumexp(elsewhere_BU + count_U.log(), 1)) - own_B
        to_image_B = torch.logaddexp(own_B, torch.logsumexp(elsewhere_BU, 0)[which_B]) - own_B
        return 0.5 * (to_text_B.mean() + to_image_B.mean())
    over_text_B = torch.logsumexp(score_BU + count_U.log(), 1)
    over_image_U = torch.logsumexp(score_BU, 0)
    if collisions == "soft":
        share_BU = same_BU * count_U
        share_BU = share_BU / share_BU.sum(1, keepdim=True)
        positive_B = (share_BU * score_BU).sum(1)
        # Sample j's positives in the other direction are the pictures of its class, each with the same weight.
        positive_U = (same_BU * score_BU).sum(0) / same_BU.sum(0)
        to_image = (count_U * (over_image_U - positive_U)).sum() / b
        return 0.5 * ((over_text_B - positive_B).mean() + to_image)
    to_image = ((count_U * over_image_U).sum() - own_B.sum()) / b
    return 0.5 * ((over_text_B - own_B).mean() + to_image)
