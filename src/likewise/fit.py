"""The training loop, a generator over a state that can be saved, and the exact solver for linear heads.

All randomness is a function of (seed, epoch or step, picture), so a state is weights, AdamW's moments and one integer.
"""

# B images, C classes, D shared width, L tokens, N training pictures, T templates, U distinct captions.

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from likewise.data.batches import Batch, Pictures, batches
from likewise.data.order import choose, pairs, permutation
from likewise.data.records import Split
from likewise.encoder import Encoder
from likewise.errors import LikewiseError
from likewise.heads import LinearHead, text_head, unit
from likewise.losses import Contrastive, CrossEntropy, contrastive, cross_entropy, pull
from likewise.names import Plan, make_plan
from likewise.recipe import AdamW, Lbfgs, Stage

BAD_STEPS = 3
"""So many steps in a row without a finite loss end the run."""


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
    """One stage and all it needs. `tokens_CTL` are the captions: per class, per template; `prompts` their texts."""

    stage: Stage
    encoder: Encoder
    head: LinearHead | None
    split: Split
    tokens_CTL: Tensor
    prompts: list[list[str]]
    seed: int
    workers: int = 0

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that could train: the encoder's by name, and `head.*`."""
        mine = self.encoder.parameters_by_name()
        if self.head is not None:
            mine |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return mine

    def plan(self) -> Plan:
        return make_plan(self.stage.trains, {name: p.numel() for name, p in self.parameters().items()})


class Training:
    """One AdamW stage in progress. `run()` yields steps; between two, `tensors()` and `step` are all its state."""

    def __init__(self, work: Work) -> None:
        assert isinstance(work.stage.fit, AdamW)
        self.work, self.fit, self.step, self.bad = work, work.stage.fit, 0, 0
        self.plan = work.plan()
        named = work.parameters()
        self.trained = {name: named[name] for name in self.plan.trains}
        for name, parameter in named.items():
            parameter.requires_grad_(name in self.trained)
        work.encoder.module.eval()  # what is held stays still: no dropout, no running statistics
        decays = [p for p in self.trained.values() if p.ndim > 1 or self.fit.decay_all]
        rests = [p for p in self.trained.values() if not (p.ndim > 1 or self.fit.decay_all)]
        groups = [{"params": decays, "weight_decay": self.fit.decay}, {"params": rests, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=self.fit.lr, fused=True)
        self.start = {name: p.detach().clone() for name, p in self.trained.items()} if self._pulls else {}
        constant = work.head is None and self.plan.text_constant
        self.constant_head = text_head(work.encoder, work.prompts) if constant else None
        self.per_epoch = math.ceil(len(work.split) / self.fit.batch)
        self.total = self.fit.epochs * self.per_epoch

    @property
    def _pulls(self) -> bool:
        return isinstance(self.work.stage.loss, CrossEntropy) and self.work.stage.loss.l2_sp > 0

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments by name. Nothing else changes between steps but `step`."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.trained.items():
            out[f"weight/{name}"] = parameter.detach()
            for key, value in self.optimizer.state[parameter].items():
                out[f"{key}/{name}"] = value
        out |= {f"start/{name}": value for name, value in self.start.items()}
        return out

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from what `tensors()` gave after `step` steps."""
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"weight/{name}"])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in tensors]
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
            image_B, template_B = pairs(seed, step, self.fit.batch, n, self.work.tokens_CTL.shape[1])
            return step, image_B, template_B  # a picture may come twice in an epoch: each time its own view
        place = step % self.per_epoch
        return epoch, permutation(seed, epoch, n)[place * self.fit.batch : (place + 1) * self.fit.batch], None

    def run(self) -> Iterator[Step]:
        """The steps that remain, one at a time. Raises `DivergenceError` (R02)."""
        pictures = Pictures(self.work.split, self.work.encoder.spec, self.work.seed)
        rows = (self._rows(step) for step in range(self.step, self.total))
        plan = ([(epoch, int(i)) for i in index_B] for epoch, index_B, _ in rows)
        for batch in batches(pictures, plan, self.work.workers):
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

    def _loss(self, batch: Batch, step: int) -> Tensor:
        encoder, stage = self.work.encoder, self.work.stage
        device = encoder.device
        labels_B = batch.labels_B.to(device)
        image_BD = unit(encoder.image(batch.pixels_BCHW.to(device)).shared_BD)
        if isinstance(stage.loss, Contrastive):
            return self._contrastive(stage.loss, image_BD, labels_B, batch.index_B, step)
        if self.work.head is not None:
            logits_BC = self.work.head(image_BD)
        elif self.constant_head is not None:
            logits_BC = self.constant_head(image_BD)
        else:
            # One template a class and step, drawn by key: every class text is encoded with gradient (FLYP-CE, Kim).
            classes, templates = self.work.tokens_CTL.shape[:2]
            which_C = torch.from_numpy(choose(self.work.seed, step, np.arange(classes), templates))
            rows_CD = unit(encoder.text(self.work.tokens_CTL[torch.arange(classes), which_C].to(device)))
            logits_BC = encoder.scale * image_BD @ rows_CD.T + encoder.shift
        value = cross_entropy(logits_BC, labels_B, stage.loss.smoothing)
        if self._pulls:
            value = value + stage.loss.l2_sp * pull(self.trained, self.start)
        return value

    def _contrastive(self, loss: Contrastive, image_BD: Tensor, labels_B: Tensor, index_B: Tensor, step: int) -> Tensor:
        epoch, _, template = self._rows(step)
        templates = self.work.tokens_CTL.shape[1]
        if template is None:
            template = choose(self.work.seed, epoch, index_B.numpy(), templates)
        codes_B = labels_B.cpu() * templates + torch.from_numpy(template)
        codes_U, which_B = torch.unique(codes_B, return_inverse=True)
        class_U, template_U = codes_U // templates, codes_U % templates
        device = image_BD.device
        text_UD = unit(self.work.encoder.text(self.work.tokens_CTL[class_U, template_U].to(device)))
        return contrastive(
            image_BD, text_UD, which_B.to(device), class_U.to(device), self.work.encoder.scale, loss.collisions
        )


class Solution(NamedTuple):
    """A linear head solved at one C: weight_CD, bias_C and the objective reached."""

    c: float
    weight_CD: Tensor
    bias_C: Tensor
    objective: float


def lbfgs_path(features_ND: Tensor, labels_N: Tensor, start: LinearHead, fit: Lbfgs) -> Iterator[Solution]:
    """Solve mean cross-entropy + |weight|^2 / (2 C N) for each C of the path, each from the last; in float64.

    `features_ND` are taken at unit length. The bias is free of the penalty, as in scikit-learn.
    """
    x_ND = unit(features_ND).double()
    n, d = x_ND.shape
    classes = len(start.bias)
    flat = torch.cat([start.weight.detach(), start.bias.detach()[:, None]], 1).cpu().double().numpy().ravel()
    for c in fit.path:

        def objective(flat: np.ndarray, c: float = c) -> tuple[float, np.ndarray]:
            both = torch.from_numpy(flat).reshape(classes, d + 1)
            weight_CD, bias_C = both[:, :d], both[:, d]
            logits_NC = F.linear(x_ND, weight_CD, bias_C)
            value = F.cross_entropy(logits_NC, labels_N) + weight_CD.square().sum() / (2 * c * n)
            slope_NC = (logits_NC.softmax(1) - F.one_hot(labels_N, classes)) / n
            gradient = torch.cat([slope_NC.T @ x_ND + weight_CD / (c * n), slope_NC.sum(0)[:, None]], 1)
            return float(value), gradient.numpy().ravel()

        options = {"maxiter": fit.iterations, "gtol": fit.tolerance, "ftol": 1e-14, "maxcor": 20}
        found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options)
        flat = found.x
        both = torch.from_numpy(flat).reshape(classes, d + 1).float()
        yield Solution(c, both[:, :d].clone(), both[:, d].clone(), float(found.fun))
