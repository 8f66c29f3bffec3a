"""The conditional head: learned words that move with the picture. CoCoOp, Zhou et al. 2022, arXiv:2203.05557."""

# B images, C classes, D shared width, H hidden width, L tokens, N (image, class) pairs, W width of the text tower.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from likewise.encoder import Encoder
from likewise.errors import ConfigError, some
from likewise.heads.head import Given, HeadConfig, HeadModule, unit
from likewise.heads.text import CHUNK
from likewise.keys import key_rng


class Conditional(HeadConfig):
    """Scores are the scale times cosines with the class texts; each learned word of theirs has net(x) added to it.

    x is the picture's unit features, net(x) = up relu(down x) with D / `reduction` hidden numbers (section 3.2). The
    prompts and their learned words are those of an adapter, a `Prompt`, which trains beside the head.

    D H + H + H W + W numbers, H = D // reduction. On CLIP ViT-B/16: 33,312, with a prompt of 4 words 35,360. Each
    picture has texts of its own: B x C of them in a batch, in chunks whose activations are recomputed for the gradient.
    Raises `ConfigError` where there are no learned words, or a class has several prompts.

    Departs: numbers stay fp32, where the authors' code trains in fp16.
    """

    kind: Literal["conditional"] = "conditional"
    reduction: int = Field(16, ge=1)
    live_text: ClassVar[bool] = True
    refuses: ClassVar[str] = (
        "the class texts of a conditional head are others for every picture, so no row of a class could be interpolated"
    )
    no_mean: ClassVar[str] = (
        "a conditional head's net has hidden units that start at random, so those of two trainings do not correspond "
        "and the mean of their weights is the mean of nothing that they do"
    )

    def _widths(self, encoder: Encoder) -> tuple[int, int, int]:
        if "text.tokens" not in encoder.sites:
            raise ConfigError(f"{encoder.spec.name} has no table of tokens; a conditional head moves learned words.")
        wide = encoder.shared_width
        if wide < self.reduction:
            raise ConfigError(
                f"reduction {self.reduction} leaves nothing of the {wide} shared features of {encoder.spec.name}."
            )
        return wide, wide // self.reduction, int(encoder.sites["text.tokens"].value.shape[1])

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        wide, narrow, text = self._widths(encoder)
        return {"down.weight": narrow * wide, "down.bias": narrow, "up.weight": text * narrow, "up.bias": text}

    def build(self, given: Given) -> HeadModule:
        several = [texts for texts in given.prompts if len(texts) != 1]
        if several:
            raise ConfigError(
                f"a conditional head needs one prompt a class and one has {len(several[0])}: «{some(several[0], 2)}». "
                "Give the stage a Prompt adapter, whose texts are the class prompts."
            )
        _learned_words(given.encoder)  # says so, if there are none
        tokens_CL = given.encoder.tokenize([texts[0] for texts in given.prompts])
        wide, narrow, text = self._widths(given.encoder)
        tensors = _start("down", narrow, wide, given.seed) | _start("up", text, narrow, given.seed)
        return self.load({**tensors, "tokens_CL": tokens_CL}, given.encoder, len(tokens_CL))

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return ConditionalHead(tensors, encoder, self).to(encoder.device)


class ConditionalHead(HeadModule):
    """logits_BC = scale cos(x_BD, text(prompt_C with its words + net(x_BD))) + shift, of features x.

    Keeps the prompts' ids and the net; the encoder, whose text tower it runs, is not among its modules.
    """

    tokens_CL: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], encoder: Encoder, config: Conditional) -> None:
        super().__init__(config)
        self.encoder = encoder
        self.register_buffer("tokens_CL", tensors["tokens_CL"].detach().clone().long())
        self.down = _linear(tensors["down.weight"], tensors["down.bias"])
        self.up = _linear(tensors["up.weight"], tensors["up.bias"])

    def forward(self, features_BD: Tensor) -> Tensor:
        x_BD = unit(features_BD)
        offset_BW = self.up(F.relu(self.down(x_BD)))
        classes = len(self.tokens_CL)
        parts = []
        for pair_N in torch.arange(len(x_BD) * classes, device=x_BD.device).split(CHUNK):
            image_N = pair_N // classes
            given = (self.tokens_CL[pair_N % classes], offset_BW[image_N], x_BD[image_N])
            if torch.is_grad_enabled():  # nothing in a tower is random, so no generator's state need be kept
                parts.append(checkpoint(self._cosines, *given, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(self._cosines(*given))
        cosine_BC = torch.cat(parts).reshape(len(x_BD), classes)
        return self.encoder.scale * cosine_BC + self.encoder.shift

    def _cosines(self, tokens_NL: Tensor, offset_NW: Tensor, x_ND: Tensor) -> Tensor:
        words = _learned_words(self.encoder)
        # Set and reset in here, because the gradient runs this a second time, when other pictures' turn is over.
        words.offset = offset_NW.unsqueeze(1)
        try:
            return (unit(self.encoder.text(tokens_NL)) * x_ND).sum(-1)
        finally:
            words.offset = None


def _learned_words(encoder: Encoder) -> Any:
    """The table of tokens with learned words in it: what has an `offset` for them."""
    table = encoder.children["text.tokens"].value if "text.tokens" in encoder.children else None
    if not hasattr(table, "offset"):
        raise ConfigError(
            f"a conditional head moves the learned words of a prompt, and {encoder.spec.name} has none at text.tokens. "
            "Give the stage a Prompt adapter."
        )
    return table


def _start(name: str, rows: int, columns: int, seed: int) -> dict[str, Tensor]:
    """As PyTorch starts a linear layer: uniform in 1 / sqrt(fan in), by key."""
    bound, rng = 1 / math.sqrt(columns), key_rng(seed, "head.conditional", name)
    shapes = {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return {key: torch.from_numpy(rng.uniform(-bound, bound, shape)).float() for key, shape in shapes.items()}


def _linear(weight_OI: Tensor, bias_O: Tensor) -> nn.Linear:
    # skip_init: nn.Linear would draw a start from the global generator
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, weight_OI.shape[1], weight_OI.shape[0])
    layer.weight = nn.Parameter(weight_OI.detach().clone().float())
    layer.bias = nn.Parameter(bias_O.detach().clone().float())
    return layer
