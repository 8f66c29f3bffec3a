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

    `features_ND` are taken at unit length. The bias is free of the penalty, as in scikit-learn.
    """
    x_ND = unit(features_ND).double()
    n, d = x_ND.shape
    assert start.bias is not None
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
