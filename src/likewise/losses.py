"""What a step minimises: cross-entropy, contrastive losses on captions, features behind holes, the pull to the start
(L2-SP), token replay.
"""

# B images, C classes, D shared width, K texts of the bank, U distinct texts in a batch.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from likewise.config import Config

Collisions = Literal["none", "mask", "soft"]
"""What texts of one class or picture are to each other in a batch: negatives, nothing, or positives."""


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
    100 or below, as CLIP was trained; FLYP's code does not. `bank`: so many other texts of the data are further
    negatives of each picture, drawn by key anew for every step; for small batches. It needs a text tower that is held,
    so that its texts' features are exact, not those of some steps ago as in a queue (He et al. 2020, arXiv:1911.05722).
    """

    kind: Literal["contrastive"] = "contrastive"
    collisions: Collisions = "none"
    clamp: bool = True
    bank: int = Field(0, ge=0)
    couples_batch: ClassVar[bool] = True


class Sigmoid(Config):
    """Each picture and text of a batch as a yes-or-no question (SigLIP: Zhai et al. 2023, arXiv:2303.15343, section 3).

    `collisions`, `clamp` and `bank` as for `Contrastive`. `scale` and `shift` belong among what trains: where no
    pretraining has seen them they begin at `starts`, the paper's section 3.2, so that the many negatives are no news.

    Departs: the scale is clamped, the texts of one picture or class are masked, and there may be a bank.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    collisions: Collisions = "mask"
    clamp: bool = True
    bank: int = Field(0, ge=0)
    couples_batch: ClassVar[bool] = True
    starts: ClassVar[Mapping[str, float]] = {"scale": math.log(10), "shift": -10.0}


class Masked(Config):
    """What the pretrained encoder sees in the whole picture, said by the tuned one of a picture with holes.

    1 - cosine of the two features before the projection; `share` of the picture's `squares` x `squares` squares are
    grey, drawn by key. The picture's caption is told to adapters that read captions, of `silent` of the pictures not:
    so what stands in for captions learns to. Feature prediction as in MaskFeat (Wei et al. 2022, arXiv:2112.09133),
    with the pretrained encoder's own features as the target.

    No caption is compared with a picture here, so an image tower that is told of captions cannot win by repeating them.
    """

    kind: Literal["masked"] = "masked"
    share: float = Field(0.5, gt=0, lt=1)
    squares: int = Field(8, ge=2)
    silent: float = Field(0.5, gt=0, lt=1)
    couples_batch: ClassVar[bool] = False


class Replay(Config):
    """Token replay: what the pretrained encoder answered on pictures is rehearsed while others are learnt.

    weight * mean over `at`, pictures, tokens and features of (LN(tuned token) - LN(pretrained token))^2, where LN has
    no numbers of its own. `tokens` of a picture's tokens, drawn by key at each step (0: all), and the class token
    where there is one. Exactly 0 at the first step of whatever is born silent.

    The name is from a talk of Diganta Misra on vision encoders tuned by weak language supervision, which was not
    published: neither paper nor code says what its Token Replay is. The definition is ours. We read replay as continual
    learning does (rehearsal: Rebuffi et al. 2017, arXiv:1611.07725; on features, without labels: Li and Hoiem 2016,
    arXiv:1606.09282), because it needs no text when the encoder is used and works against the same forgetting
    as the line to the pretrained weights does.
    """

    weight: float = Field(1.0, ge=0)
    at: tuple[str, ...] = Field(("image.-1.block",), min_length=1)
    tokens: int = Field(16, ge=0)


Loss = Annotated[CrossEntropy | Contrastive | Sigmoid | Masked, Field(discriminator="kind")]


def cross_entropy(logits_BC: Tensor, labels_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean softmax cross-entropy of labels_B, in fp32, with label smoothing (Szegedy et al. 2016, section 7)."""
    return F.cross_entropy(logits_BC.float(), labels_B, label_smoothing=smoothing)


def pull(now: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """The sum of squared differences from the start, over all named tensors."""
    return torch.stack([(now[name] - start[name]).square().sum() for name in start]).sum()


class Bank(NamedTuple):
    """Further texts, negatives of every picture that is not of their group: unit rows and groups."""

    text_KD: Tensor
    kin_K: Tensor


def contrastive(
    image_BD: Tensor,
    text_UD: Tensor,
    which_B: Tensor,
    class_U: Tensor,
    scale: Tensor,
    collisions: Collisions = "none",
    bank: Bank | None = None,
) -> Tensor:
    """The mean of both directions' cross-entropies over a batch whose captions repeat.

    `image_BD` and `text_UD` have unit rows; sample j's caption is row `which_B[j]`, of class `class_U[which_B[j]]`.
    The same number as the B x B form with repeated columns, in B x U: a caption that occurs m times enters the sums
    with weight m, and the backward pass is matrix products only. The bank's texts are in the pictures' sums alone.
    """
    b, u = len(image_BD), len(text_UD)
    score_BU = scale * image_BD.float() @ text_UD.float().T
    count_U = torch.bincount(which_B, minlength=u).to(score_BU.dtype)
    own_B = score_BU.gather(1, which_B[:, None])[:, 0]
    class_B = class_U[which_B]
    same_BU = class_B[:, None] == class_U[None, :]

    def over_texts(score_BU: Tensor) -> Tensor:
        scores = [score_BU + count_U.log()]
        if bank is not None:
            score_BK = scale * image_BD.float() @ bank.text_KD.float().T
            scores.append(score_BK.masked_fill(class_B[:, None] == bank.kin_K[None, :], float("-inf")))
        return torch.logsumexp(torch.cat(scores, 1), 1)

    if collisions == "mask":
        elsewhere_BU = score_BU.masked_fill(same_BU, float("-inf"))
        to_text_B = torch.logaddexp(own_B, over_texts(elsewhere_BU)) - own_B
        to_image_B = torch.logaddexp(own_B, torch.logsumexp(elsewhere_BU, 0)[which_B]) - own_B
        return 0.5 * (to_text_B.mean() + to_image_B.mean())
    over_text_B = over_texts(score_BU)
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


def sigmoid(
    score_BU: Tensor, which_B: Tensor, class_U: Tensor, collisions: Collisions, score_BK: Tensor, kin_K: Tensor
) -> Tensor:
    """The sum over a batch's pictures and texts of the cost of yes or no, over B.

    `score` is scale * cosine + shift, of the batch's distinct texts and of the bank's; the rest as for `contrastive`.
    """
    own_BU = F.one_hot(which_B, len(class_U)).to(score_BU.dtype)
    others_BU = torch.bincount(which_B, minlength=len(class_U)) - own_BU  # how often the text is another sample's
    class_B = class_U[which_B]
    same_BU = (class_B[:, None] == class_U[None, :]).to(score_BU.dtype)
    yes_BU, no_BU = F.softplus(-score_BU), F.softplus(score_BU)
    kept = {"none": no_BU, "mask": (1 - same_BU) * no_BU, "soft": same_BU * yes_BU + (1 - same_BU) * no_BU}[collisions]
    bank_BK = (class_B[:, None] != kin_K[None, :]) * F.softplus(score_BK)
    return ((own_BU * yes_BU + others_BU * kept).sum() + bank_BK.sum()) / len(which_B)
