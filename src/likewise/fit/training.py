"""The training loop: a generator over a state that can be saved.

All randomness is a function of (seed, epoch or step, picture), so a state is weights, the optimiser's moments and one
integer.
"""

# B images, C classes, D shared width, K texts of the bank, L tokens, N training pictures, W pooled width, U distinct
# texts, of the data or of a batch.

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from likewise.data.batches import Batch, Pictures, batches
from likewise.data.order import choose, pairs, permutation
from likewise.encoder import Embedded
from likewise.errors import ConfigError, LikewiseError
from likewise.fit.compare import Comparison
from likewise.fit.masked import Guessing
from likewise.fit.replay import Rehearsal
from likewise.fit.work import Work
from likewise.heads import unit
from likewise.losses import Contrastive, CrossEntropy, Masked, Sigmoid, cross_entropy, pull
from likewise.recipe import Descent, Sgd

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


class Training:
    """One stage in progress. `run()` yields steps; between two, `tensors()` and `step` are all its state."""

    def __init__(self, work: Work) -> None:
        assert isinstance(work.stage.fit, Descent)
        self.work, self.fit, self.step, self.bad = work, work.stage.fit, 0, 0
        self.plan = work.plan()
        self.texts = Comparison(work, self.plan)
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
        self.per_epoch = math.ceil(len(work.split) / self.fit.batch)
        self.total = self.fit.steps(len(work.split), len(work.captions))
        self.still = self._still() if self.fit.sampling == "features" else None
        self.rehearsal: Rehearsal | None = None
        loss = work.stage.loss
        self.guessing = Guessing(work, loss, self.texts) if isinstance(loss, Masked) else None

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
            image_B, template_B = pairs(seed, step, self.fit.batch, n, self.texts.told.each)
            return step, image_B, template_B  # a picture may come twice in an epoch: each time its own view
        place = step % self.per_epoch
        return epoch, permutation(seed, epoch, n)[place * self.fit.batch : (place + 1) * self.fit.batch], None

    def run(self) -> Iterator[Step]:
        """The steps that remain, one at a time. Raises `DivergenceError` (R02)."""
        replay = self.work.stage.replay
        if replay is not None and replay.weight:
            self.rehearsal = Rehearsal(self.work, replay, self.step, self.total)
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
        if isinstance(loss, Contrastive | Sigmoid) and loss.clamp and "scale" in self.trained:
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
        if self.guessing is not None:
            return self.guessing.loss(batch, (self._rows(step)[0], step))
        if self.rehearsal is None:
            return self._task(batch, self._embed(batch), step)
        with self.rehearsal.watching() as seen:
            embedded = self._embed(batch)
        return self._task(batch, embedded, step) + self.rehearsal.term(batch, seen, step)

    def _task(self, batch: Batch, embedded: Embedded, step: int) -> Tensor:
        """The loss without what is rehearsed."""
        head, loss = self.work.head, self.work.stage.loss
        assert not isinstance(loss, Masked), "it is not a loss of a batch's features"
        labels_B = batch.labels_B.to(self.work.encoder.device)
        if isinstance(loss, Contrastive | Sigmoid):
            epoch, _, number_B = self._rows(step)
            return self.texts.loss(unit(embedded.shared_BD), batch, number_B, (epoch, step))
        if head is not None:
            value = cross_entropy(head.answer(embedded), labels_B, loss.smoothing)
            if self.texts.seen_CD is not None:
                which_B = choose(self.work.seed, step, np.arange(len(labels_B)), len(self.texts.seen_CD))
                class_B = torch.from_numpy(which_B).to(labels_B.device)
                value = 0.5 * (value + cross_entropy(head(self.texts.seen_CD[class_B]), class_B, loss.smoothing))
            if (extra := head.penalty()) is not None:
                value = value + extra
        else:
            value = cross_entropy(self.texts.logits(unit(embedded.shared_BD), step), labels_B, loss.smoothing)
        if self._pulls:
            shots = len(self.work.split) / len(self.work.captions)
            strength = 1 / shots if loss.l2_sp == "1/shots" else loss.l2_sp
            value = value + strength * pull(self.trained, self.start)
        return value
