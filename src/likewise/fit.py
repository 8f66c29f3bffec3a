"""The training loop: a generator over a state that can be saved.

All randomness is a function of (seed, epoch or step, picture), so a state is weights, the optimiser's moments and one
integer.
"""

# B images, C classes, D shared width, L tokens, N training pictures, T templates, U distinct captions, W pooled width.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from likewise.data.batches import Batch, Pictures, batches
from likewise.data.order import choose, pairs, permutation
from likewise.data.records import Split
from likewise.encoder import Embedded, Encoder
from likewise.errors import ConfigError, LikewiseError
from likewise.heads import HeadModule, Reads, class_texts, encode, unit
from likewise.losses import Contrastive, CrossEntropy, contrastive, cross_entropy, pull
from likewise.names import Plan
from likewise.recipe import Descent, Sgd, Stage

BAD_STEPS = 3
"""So many steps in a row without a finite loss end the run."""


MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
"""What AdamW and momentum keep for each tensor."""


class DivergenceError(LikewiseError):
    """The loss stayed not finite; the weights are those of the last good step."""

    exit_code = 1

    def __init__(self, step: int, rate: float) -> None:
        super().__init__(
            "R02",
            f"The loss is not finite at step {step} (rate {rate:.2g}), {BAD_STEPS} steps in a row. No such step was "
            "applied; the last checkpoint is good. Train with a lower rate: stages.0.fit.lr=...",
        )


class Step(NamedTuple):
    """What one optimiser step did: its number, loss, rate, and gradient norm before clipping."""

    step: int
    loss: float
    rate: float
    norm: float


@dataclass
class Work:
    """One stage and all it needs; its adapters stand in the encoder.

    `captions` are the texts to train with, `prompts` those to predict with, per class; `features` gives the training
    pictures' features in the evaluation view.
    """

    stage: Stage
    encoder: Encoder
    head: HeadModule | None
    split: Split
    captions: list[list[str]]
    prompts: list[list[str]]
    seed: int
    workers: int = 0
    features: Callable[[Reads], Tensor] | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that could train: the encoder's by name, grafts included, and `head.*`."""
        mine = self.encoder.parameters_by_name()
        if self.head is not None:
            mine |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return mine

    def plan(self) -> Plan:
        return self.stage.plan({name: p.numel() for name, p in self.parameters().items()})

    def tokens_CTL(self) -> Tensor:
        """The captions as token ids."""
        flat = self.encoder.tokenize([text for texts in self.captions for text in texts])
        return flat.reshape(len(self.captions), -1, flat.shape[-1])


class Training:
    """One stage in progress. `run()` yields steps; between two, `tensors()` and `step` are all its state."""

    def __init__(self, work: Work) -> None:
        assert isinstance(work.stage.fit, Descent)
        self.work, self.fit, self.step, self.bad = work, work.stage.fit, 0, 0
        self.tokens_CTL = work.tokens_CTL()
        self.plan = work.plan()
        named = work.parameters()
        self.trained = {name: named[name] for name in self.plan.trains}
        for name, parameter in named.items():
            parameter.requires_grad_(name in self.trained)
        work.encoder.module.eval()  # what is held stays still: no dropout, no running statistics
        decays = [p for p in self.trained.values() if p.ndim > 1 or self.fit.decay_all]
        rests = [p for p in self.trained.values() if not (p.ndim > 1 or self.fit.decay_all)]
        groups = [{"params": decays, "weight_decay": self.fit.decay}, {"params": rests, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        self.optimizer: torch.optim.Optimizer
        if isinstance(self.fit, Sgd):
            self.optimizer = torch.optim.SGD(groups, lr=self.fit.lr, momentum=0.9, fused=True)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=self.fit.lr, fused=True)
        self.start = {name: p.detach().clone() for name, p in self.trained.items()} if self._pulls else {}
        constant = (work.head is None and self.plan.text_constant) or self._sees_texts
        self.rows_CD = class_texts(work.encoder, work.captions) if constant else None
        self.per_epoch = math.ceil(len(work.split) / self.fit.batch)
        self.total = self.fit.steps(len(work.split), len(work.captions))
        self.still = self._still() if self.fit.sampling == "features" else None

    def _still(self) -> Embedded:
        """The training pictures' features, computed once: pooled ones where the projection trains or the head asks."""
        if not self.plan.trunk_constant:
            moved = self.plan.moved_trunk[0]
            raise ConfigError(f"sampling «features» computes features once, but {moved} trains. Use sampling: images.")
        assert self.work.features is not None, "sampling «features» needs a way to them"
        if not self.plan.image_constant or (self.work.head is not None and self.work.head.config.reads == "pooled"):
            return Embedded(self.work.features("pooled"), torch.empty(0))
        return Embedded(None, self.work.features("shared"))

    @property
    def _pulls(self) -> bool:
        return isinstance(self.work.stage.loss, CrossEntropy) and self.work.stage.loss.l2_sp != 0

    @property
    def _sees_texts(self) -> bool:
        return isinstance(self.work.stage.loss, CrossEntropy) and self.work.stage.loss.texts

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments by name. Nothing else changes between steps but `step`."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.trained.items():
            out[f"weight/{name}"] = parameter.detach()
            state = self.optimizer.state[parameter]
            out |= {f"{key}/{name}": value for key, value in state.items() if value is not None}
        out |= {f"start/{name}": value for name, value in self.start.items()}
        return out

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from what `tensors()` gave after `step` steps."""
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"weight/{name}"])
            keys = [key for key in MOMENTS if f"{key}/{name}" in tensors]
            state = {key: tensors[f"{key}/{name}"].clone().to(parameter.device) for key in keys}
            self.optimizer.state[parameter] = state  # fused AdamW keeps the step count beside the weights
        self.start = {name: tensors[f"start/{name}"].clone().to(self.work.encoder.device) for name in self.start}
        self.step = step

    def rate(self, step: int) -> float:
        """Linear warm-up to `lr`, then a cosine that would reach zero one step after the last."""
        warm = round(self.fit.warmup * self.total)
        if step < warm:
            return self.fit.lr * (step + 1) / warm
        return self.fit.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.total - warm)))

    def _rows(self, step: int) -> tuple[int, np.ndarray, np.ndarray | None]:
        """The epoch, the pictures and, for pair sampling, the templates of one step."""
        n, seed = len(self.work.split), self.work.seed
        epoch = step // self.per_epoch
        if self.fit.sampling == "pairs":
            image_B, template_B = pairs(seed, step, self.fit.batch, n, self.tokens_CTL.shape[1])
            return step, image_B, template_B  # a picture may come twice in an epoch: each time its own view
        place = step % self.per_epoch
        return epoch, permutation(seed, epoch, n)[place * self.fit.batch : (place + 1) * self.fit.batch], None

    def run(self) -> Iterator[Step]:
        """The steps that remain, one at a time. Raises `DivergenceError` (R02)."""
        for batch in self._batches():
            step, rate = self.step, self.rate(self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(batch, step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            largest = self.fit.clip or float("inf")
            norm = nn.utils.clip_grad_norm_(list(self.trained.values()), largest)
            value, size = loss.item(), norm.item()
            self._apply(math.isfinite(value) and math.isfinite(size), rate)
            self.step += 1
            yield Step(step, value, rate, size)

    def _batches(self) -> Iterator[Batch]:
        rows = (self._rows(step) for step in range(self.step, self.total))
        if self.still is not None:
            labels_N = torch.from_numpy(self.work.split.labels_N)
            for _, index_B, _ in rows:
                yield Batch(torch.empty(0), labels_N[index_B], torch.from_numpy(index_B))
            return
        pictures = Pictures(self.work.split, self.work.encoder.spec, self.work.seed)
        plan = ([(epoch, int(i)) for i in index_B] for epoch, index_B, _ in rows)
        yield from batches(pictures, plan, self.work.workers)

    def _apply(self, finite: bool, rate: float) -> None:
        self.bad = 0 if finite else self.bad + 1
        if finite:
            self.optimizer.step()
        elif self.bad >= BAD_STEPS:
            raise DivergenceError(self.step, rate)
        loss = self.work.stage.loss
        if isinstance(loss, Contrastive) and loss.clamp and "scale" in self.trained:
            with torch.no_grad():
                self.trained["scale"].clamp_(max=math.log(100))

    def _embed(self, batch: Batch) -> Embedded:
        encoder = self.work.encoder
        if self.still is None:
            return encoder.image(batch.pixels_BCHW.to(encoder.device))
        pooled_NW, shared_ND = self.still
        if pooled_NW is None:
            return Embedded(None, shared_ND[batch.index_B].to(encoder.device))
        pooled_BW = pooled_NW[batch.index_B].to(encoder.device)
        return Embedded(pooled_BW, pooled_BW if self.plan.image_constant else encoder.project(pooled_BW))

    def _loss(self, batch: Batch, step: int) -> Tensor:
        head, loss = self.work.head, self.work.stage.loss
        labels_B = batch.labels_B.to(self.work.encoder.device)
        embedded = self._embed(batch)
        if isinstance(loss, Contrastive):
            return self._contrastive(loss, unit(embedded.shared_BD), labels_B, batch.index_B, step)
        if head is not None:
            value = cross_entropy(head.answer(embedded), labels_B, loss.smoothing)
            if (extra := head.penalty()) is not None:
                value = value + extra
            if self.rows_CD is not None:
                which_B = choose(self.work.seed, step, np.arange(len(labels_B)), len(self.rows_CD))
                class_B = torch.from_numpy(which_B).to(labels_B.device)
                value = 0.5 * (value + cross_entropy(head(self.rows_CD[class_B]), class_B, loss.smoothing))
        else:
            value = cross_entropy(self._text_logits(unit(embedded.shared_BD), step), labels_B, loss.smoothing)
        if self._pulls:
            shots = len(self.work.split) / len(self.work.captions)
            strength = 1 / shots if loss.l2_sp == "1/shots" else loss.l2_sp
            value = value + strength * pull(self.trained, self.start)
        return value

    def _text_logits(self, image_BD: Tensor, step: int) -> Tensor:
        encoder = self.work.encoder
        if self.rows_CD is not None:
            return encoder.scale * image_BD @ self.rows_CD.T + encoder.shift  # scale and shift may train
        # One template a class and step, drawn by key: every class text is encoded with gradient (FLYP-CE, Kim).
        classes, templates = self.tokens_CTL.shape[:2]
        which_C = torch.from_numpy(choose(self.work.seed, step, np.arange(classes), templates))
        rows_CD = encode(encoder, self.tokens_CTL[torch.arange(classes), which_C].to(encoder.device))
        return encoder.scale * image_BD @ rows_CD.T + encoder.shift

    def _contrastive(self, loss: Contrastive, image_BD: Tensor, labels_B: Tensor, index_B: Tensor, step: int) -> Tensor:
        epoch, _, template = self._rows(step)
        templates = self.tokens_CTL.shape[1]
        if template is None:
            template = choose(self.work.seed, epoch, index_B.numpy(), templates)
        codes_B = labels_B.cpu() * templates + torch.from_numpy(template)
        codes_U, which_B = torch.unique(codes_B, return_inverse=True)
        class_U, template_U = codes_U // templates, codes_U % templates
        device = image_BD.device
        text_UD = encode(self.work.encoder, self.tokens_CTL[class_U, template_U].to(device))
        return contrastive(
            image_BD, text_UD, which_B.to(device), class_U.to(device), self.work.encoder.scale, loss.collisions
        )
