"""Compacter: bottlenecks whose matrices are sums of Kronecker products.

Mahabadi et al. 2021, arXiv:2106.04647, section 3; the sum is that of PHM layers (Zhang et al. 2021, arXiv:2102.08597).
"""

# N terms of a sum and side of the rule's matrices (also A its rows, B its columns), R rank, I inputs, O outputs,
# P = I / N, Q = O / N; ... any shape.

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.bottleneck import Activation, Added
from likewise.adapters.places import answering, in_blocks
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from likewise.keys import normal, uniform
from likewise.names import tower_of


class Compacter(AdapterConfig):
    """y -> y + up(activation(down(y))) behind each place, where both are x -> x W + b, W = sum_i rule_i kron s_i t_i.

    i runs over `n` terms; the rule (n, n, n) is one for all places and for up and down, s is (n, inputs / n, rank) and
    t (n, rank, outputs / n). With w the tower's width and d `width`: 2 rank (w + d) + w + d numbers a place, and n^3
    once. Kim et al. 2021 (OpenReview EhwEUb2ynIa), one in each text block, n = 4, d = 24: 19,360 on CLIP ViT-B/16.

    at ("text.*.mlp",) is Compacter++; with "text.*.attention" too it is Compacter. Where places in both towers are
    chosen, the rule belongs to both. Raises `ConfigError` for a place that the encoder lacks and where n does not
    divide the tower's width; n must divide `width`.

    Departs: the rule starts normal with std 1 / sqrt(n), so a sum of n terms is as large as one, and t of `up` at zero,
    so that it is silent. The original draws the rule near 1e-4 and t of `up` like the others: the answer is then almost
    zero, but s and t get gradients as small as the rule, and it needs a rate of 3e-3 where bottlenecks need 3e-4. Here
    gradients are not that small; `compacter` and `compacter++` keep 3e-3 all the same, which was compared with no other
    rate. The original trains the norms beside it: say so in `trains`.
    """

    kind: Literal["compacter"] = "compacter"
    at: tuple[str, ...] = ("text.*.mlp",)
    width: int = Field(24, ge=1)
    n: int = Field(4, ge=1)
    rank: int = Field(1, ge=1)
    activation: Activation = "gelu"
    scales: ClassVar[tuple[str, ...] | None] = (".up.t", ".up.bias")

    @model_validator(mode="after")
    def _divides(self) -> Compacter:
        if self.width % self.n:
            raise ValueError(f"n = {self.n} must divide width = {self.width}: a matrix is cut into n x n parts")
        return self

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        chosen = in_blocks(encoder, "Compacter", self.at)
        for place, wide in chosen:
            if wide % self.n:
                common = math.gcd(self.width, *(wide for _, wide in chosen))
                raise ConfigError(
                    f"n = {self.n} does not divide {wide}, the width of {encoder.spec.name} at {place}, and Compacter "
                    f"cuts its matrices into n x n parts. Choose n among the divisors of {common}."
                )
        towers = {tower_of(place) for place, _ in chosen}
        shared = f"compacter.{towers.pop() if len(towers) == 1 else 'both'}.rule"
        std = 1 / math.sqrt(self.n)
        rule = _Rule(normal((self.n, self.n, self.n), std, seed, shared).to(encoder.device))
        grafts.shared(shared, rule)
        for place, wide in chosen:
            own = f"compacter.{place}"
            down = self._projection(rule, wide, self.width, (seed, own, "down"))
            up = self._projection(rule, self.width, wide, (seed, own, "up"))
            nn.init.zeros_(up.t)
            added = Added(down, up, self.activation)
            grafts.token(own, encoder.children[place], added, answering(added.behind))

    def _projection(self, rule: _Rule, inputs: int, outputs: int, key: tuple[int | str, ...]) -> _Projection:
        """With s and t at Glorot and Bengio's uniform start, each term by itself."""
        p, q = inputs // self.n, outputs // self.n
        s_NPR = uniform((self.n, p, self.rank), math.sqrt(6 / (p + self.rank)), *key, "s")
        t_NRQ = uniform((self.n, self.rank, q), math.sqrt(6 / (self.rank + q)), *key, "t")
        device = rule.matrices.device
        return _Projection(rule, s_NPR.to(device), t_NRQ.to(device))


class _Rule(nn.Module):
    """The left factors, of which every projection reads the same."""

    def __init__(self, matrices_NAB: Tensor) -> None:
        super().__init__()
        self.matrices = nn.Parameter(matrices_NAB)


class _Projection(nn.Module):
    """x_I to x_I W_IO + bias_O, in N R (I + O) + N^3 R products a token: W is never made."""

    def __init__(self, rule: _Rule, s_NPR: Tensor, t_NRQ: Tensor) -> None:
        super().__init__()
        self._rule = (rule,)  # in a tuple: read, and not registered a second time
        self.s, self.t = nn.Parameter(s_NPR), nn.Parameter(t_NRQ)
        self.bias = nn.Parameter(t_NRQ.new_zeros(len(t_NRQ) * t_NRQ.shape[2]))

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.s)
        # x_I is (A, P): its part a meets s by P, then column b of each rule by A, and t by N and R
        inner = x.unflatten(-1, (n, -1)) @ self.s.transpose(0, 1).flatten(1)
        terms = inner.unflatten(-1, (n, -1))
        mixed = torch.einsum("...anr,nab->...bnr", terms, self._rule[0].matrices)
        return (mixed.flatten(-2) @ self.t.flatten(0, 1)).flatten(-2) + self.bias
