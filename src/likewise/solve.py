"""The exact solver for linear heads on constant features."""

# C classes, D feature width, N training pictures.

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from likewise.heads import LinearHead, unit
from likewise.recipe import Lbfgs


class Solution(NamedTuple):
    """A linear head solved at one C: weight_CD, bias_C and the objective reached."""

    c: float
    weight_CD: Tensor
    bias_C: Tensor
    objective: float


def lbfgs_path(features_ND: Tensor, labels_N: Tensor, start: LinearHead, fit: Lbfgs) -> Iterator[Solution]:
    """Solve mean cross-entropy + |weight|^2 / (2 C N) for each C of the path, each from the last; in float64.

    `features_ND` are taken at unit length. The bias is free of the penalty, as in scikit-learn: so the mean of the
    features can move into it, and one scale into C, without another solution. Where features point much the same way,
    as DINO's do, the search would else end long before it.
    """
    x_ND, n = unit(features_ND).double(), len(features_ND)
    mean_D = x_ND.mean(0)
    x_ND = x_ND - mean_D
    scale = x_ND.square().sum(1).mean().sqrt().clamp_min(torch.finfo(torch.float32).eps)
    x_ND = x_ND / scale
    assert start.bias is not None
    weight_CD, bias_C = start.weight.detach().cpu().double(), start.bias.detach().cpu().double()
    flat = torch.cat([weight_CD * scale, (bias_C + weight_CD @ mean_D)[:, None]], 1).numpy().ravel()
    target_NC = F.one_hot(labels_N, len(bias_C))
    for c in fit.path:
        decay = float(1 / (c * n * scale**2))

        def objective(flat: np.ndarray, decay: float = decay) -> tuple[float, np.ndarray]:
            weight_CD, bias_C = _parts(flat, len(mean_D))
            logits_NC = F.linear(x_ND, weight_CD, bias_C)
            value = F.cross_entropy(logits_NC, labels_N) + decay / 2 * weight_CD.square().sum()
            slope_NC = (logits_NC.softmax(1) - target_NC) / n
            gradient = torch.cat([slope_NC.T @ x_ND + decay * weight_CD, slope_NC.sum(0)[:, None]], 1)
            return float(value), gradient.numpy().ravel()

        options = {"maxiter": fit.iterations, "gtol": fit.tolerance, "ftol": 1e-14, "maxcor": 20}
        found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options)
        flat = found.x
        weight_CD, bias_C = _parts(flat, len(mean_D))
        weight_CD = weight_CD / scale
        yield Solution(c, weight_CD.float(), (bias_C - weight_CD @ mean_D).float(), float(found.fun))


def _parts(flat: np.ndarray, width: int) -> tuple[Tensor, Tensor]:
    """weight_CD and bias_C of the numbers that the search moves."""
    both = torch.from_numpy(flat).reshape(-1, width + 1)
    return both[:, :width], both[:, width]
