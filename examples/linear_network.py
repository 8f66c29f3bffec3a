"""Kumar et al.'s two-layer linear network (arXiv:2202.10054, section 3), followed along gradient flow.

    python examples/linear_network.py

y = v'Bx: head v, features B. Prints what fine-tuning (FT), linear probing (LP) and both in turn (LP-FT) end at, by how good
the pretrained features are and by the head that FT begins from; some seconds. `feature_distortion.py` draws it.
"""

# D inputs, K features, N training points, S draws. T moments. Arrays may have further axes before those named.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from likewise.keys import key_rng
from likewise.metrics import half_width

D, K, N, DRAWS = 50, 5, 20, 20
"""Inputs, features, training points (K < N < D - K, as section 3.1 asks), and draws."""
OFFS = (0.0, 0.03, 0.1, 0.3, 1.0, np.inf)
"""How far the pretrained features are from the true ones: the norm of what was added; infinity: unrelated."""
SHOWN = 0.1
WAYS = ("ft", "lp", "lp-ft")
NAMES = {"ft": "FT", "lp": "LP", "lp-ft": "LP-FT"}
HEADS = ("the true one, v*", "v* + 0.1 random", "v* + 0.3 random", "zeros", "random")


class Network(NamedTuple):
    """X_ND: training points; w_D: the true y = w'x; start_KD: pretrained features; head_K: the true head, as seen from
    them; gap: the features' distance from the true ones."""

    X_ND: np.ndarray
    w_D: np.ndarray
    start_KD: np.ndarray
    head_K: np.ndarray
    gap: float


def polar(rows_KD: np.ndarray) -> np.ndarray:
    """The nearest orthonormal rows."""
    left, _, right = np.linalg.svd(rows_KD, full_matrices=False)
    return left @ right


def network(draw: int, off: float) -> Network:
    """Section 3.1: orthonormal pretrained rows, true rows near them, a unit true head, Gaussian training points."""
    rng = key_rng("feature-distortion", draw)
    start_KD = polar(rng.standard_normal((K, D)))
    noise_KD = rng.standard_normal((K, D))
    X_ND = rng.standard_normal((N, D)) / np.sqrt(D)
    head_K = rng.standard_normal(K)
    head_K /= np.linalg.norm(head_K)
    if off:
        noise_KD /= np.linalg.norm(noise_KD, 2)
        true_KD = polar(noise_KD if np.isinf(off) else start_KD + off * noise_KD)
        true_KD = polar(start_KD @ true_KD.T) @ true_KD  # of all rotations of the truth, the nearest
    else:
        true_KD = start_KD
    return Network(X_ND, true_KD.T @ head_K, start_KD, head_K, float(np.linalg.norm(start_KD - true_KD, 2)))


def stacked(off: float) -> Network:
    """All draws, as one network with a leading S."""
    return Network(*(np.stack(parts) for parts in zip(*(network(draw, off) for draw in range(DRAWS)), strict=True)))


def random_heads() -> np.ndarray:
    """heads_SK of independent normal draws, of length about 1."""
    return np.stack([key_rng("random head", draw).standard_normal(K) for draw in range(DRAWS)]) / np.sqrt(K)


def probed(net: Network) -> np.ndarray:
    """heads_SK that linear probing ends at: least squares on the pretrained features."""
    seen_SNK = net.X_ND @ net.start_KD.swapaxes(-1, -2)
    return (np.linalg.pinv(seen_SNK) @ (net.X_ND @ net.w_D[..., None]))[..., 0]


Moments = list[tuple[float, np.ndarray, np.ndarray]]
"""(time, head_K, rows_KD) along a path, with their leading axes."""


def flow(
    net: Network, head_K: np.ndarray, tuned: np.ndarray | float, end: float = 100.0, step: float = 0.05
) -> Moments:
    """Gradient flow of |X B'v - Y|^2 (equations 3.2 and 3.3) by Runge and Kutta's fourth order, from the pretrained rows.

    `tuned` is 1 where the rows move and 0 where the head alone does. Steps are 10 times shorter before time 2.
    """
    curve_DD = 2 * net.X_ND.swapaxes(-1, -2) @ net.X_ND

    def slope(v_K: np.ndarray, B_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wrong_D = (v_K[..., None, :] @ B_KD)[..., 0, :] - net.w_D
        down_D = -(curve_DD @ wrong_D[..., None])[..., 0]
        return (B_KD @ down_D[..., None])[..., 0], tuned * v_K[..., :, None] * down_D[..., None, :]

    sizes = [step / 10] * round(20 / step) + [step] * round((end - 2) / step)
    marks = set(np.unique(np.geomspace(1, len(sizes), 70).round()))
    v_K, B_KD = head_K, np.broadcast_to(net.start_KD, (*head_K.shape, net.start_KD.shape[-1])).copy()
    now, out = 0.0, [(0.0, v_K, B_KD)]
    for count, h in enumerate(sizes, 1):
        a = slope(v_K, B_KD)
        b = slope(v_K + h / 2 * a[0], B_KD + h / 2 * a[1])
        c = slope(v_K + h / 2 * b[0], B_KD + h / 2 * b[1])
        d = slope(v_K + h * c[0], B_KD + h * c[1])
        v_K = v_K + h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0])
        B_KD = B_KD + h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1])
        now += h
        if count in marks:
            out.append((now, v_K, B_KD))
    return out


def measured(net: Network, moments: Moments) -> dict[str, np.ndarray]:
    """Worst errors over points of length 1, in the training points' span and anywhere (equation 3.1), as roots; how far
    the rows moved inside that span and outside it; and by how much v v' - B B' moved. Each has time first, then S."""
    into_DD = np.linalg.pinv(net.X_ND) @ net.X_ND
    first = moments[0]
    kept = first[1][..., :, None] * first[1][..., None, :] - first[2] @ first[2].swapaxes(-1, -2)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("id", "ood", "inside", "outside", "unbalanced")}
    for _, v_K, B_KD in moments:
        wrong_D = (v_K[..., None, :] @ B_KD)[..., 0, :] - net.w_D
        moved_KD = B_KD - first[2]
        within_KD = moved_KD @ into_DD
        rows["id"].append(np.linalg.norm((into_DD @ wrong_D[..., None])[..., 0], axis=-1))
        rows["ood"].append(np.linalg.norm(wrong_D, axis=-1))
        rows["inside"].append(np.linalg.norm(within_KD, axis=(-1, -2)))
        rows["outside"].append(np.linalg.norm(moved_KD - within_KD, axis=(-1, -2)))
        now = v_K[..., :, None] * v_K[..., None, :] - B_KD @ B_KD.swapaxes(-1, -2)
        rows["unbalanced"].append(np.abs(now - kept).max(axis=(-1, -2)))
    return {name: np.stack(found) for name, found in rows.items()}


def misaligned(net: Network, head_K: np.ndarray) -> np.ndarray:
    """phi: the root of |(v0'v*)^2 - (v*'v*)^2|."""
    true = (net.head_K**2).sum(-1)
    return np.sqrt(np.abs((head_K * net.head_K).sum(-1) ** 2 - true**2))


def bound(net: Network, head_K: np.ndarray) -> np.ndarray:
    """Section 3.2's lower bound on fine-tuning's root error out of distribution, at every time; negative: it says nothing."""
    into_DD = np.linalg.pinv(net.X_ND) @ net.X_ND
    cosine = np.linalg.svd(net.start_KD - net.start_KD @ into_DD, compute_uv=False)[..., -1]
    phi, size = misaligned(net, head_K), np.linalg.norm(net.w_D, axis=-1)
    return cosine / np.sqrt(K) * np.minimum(phi, phi**2 / size) / (1 + size) ** 2 - net.gap


class Linear(NamedTuple):
    """All that is measured of the network: by distance of the features then way, and of fine-tuning by head."""

    times: list[float]
    gaps: dict[float, np.ndarray]
    by_off: dict[float, dict[str, dict[str, np.ndarray]]]
    by_head: dict[str, tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]
    """phi_S, bound_S, measures."""


def all_runs() -> Linear:
    random_SK = random_heads()
    gaps, by_off, by_head, times = {}, {}, {}, []
    for off in OFFS:
        net = stacked(off)
        gaps[off] = np.asarray(net.gap)
        heads = np.stack([random_SK, random_SK, probed(net)])
        moments = flow(net, heads, np.array([1.0, 0.0, 1.0])[:, None, None, None])
        times = [at for at, _, _ in moments]
        found = measured(net, moments)
        by_off[off] = {way: {name: x[:, i] for name, x in found.items()} for i, way in enumerate(WAYS)}
    net = stacked(0.0)
    true_SK = net.head_K
    heads = np.stack([true_SK, true_SK + 0.1 * random_SK, true_SK + 0.3 * random_SK, 0 * true_SK, random_SK])
    found = measured(net, flow(net, heads, 1.0))
    for i, name in enumerate(HEADS):
        by_head[name] = misaligned(net, heads[i]), bound(net, heads[i]), {key: x[:, i] for key, x in found.items()}
    return Linear(times, gaps, by_off, by_head)


def said(x: np.ndarray, digits: int = 1) -> str:
    """Mean and half-width of the 95 % t-interval."""
    return f"{x.mean():.{digits}f} ± {half_width(x):.{digits}f}"


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown, all columns but the first to the right."""
    columns = head.count("|")
    lines = [f"| {head} |", "|---" + "|---:" * columns + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def by_off(told: Linear) -> str:
    rows = []
    for off in OFFS:
        far = f"{told.gaps[off].mean():.2f}{' (unrelated)' if np.isinf(off) else ''}"
        rows.append([far, *(said(told.by_off[off][way][key][-1], 3) for key in ("id", "ood") for way in WAYS)])
    return table("features off by | in distribution: FT | LP | LP-FT | out of it: FT | LP | LP-FT", rows)


def by_head(told: Linear) -> str:
    rows = []
    for name, (phi, least, found) in told.by_head.items():
        cells = (phi, least, found["ood"].min(0), found["ood"][-1], found["inside"][-1])
        rows.append([name, *(said(x, 3) for x in cells)])
    return table("head at the start | phi | bound | least error of all times | error at the end | change of B", rows)


def claims(told: Linear) -> str:
    perfect, shown, heads = told.by_off[0.0], told.by_off[SHOWN], [*told.by_head.values()]
    tuned = [told.by_off[off][way] for off in OFFS for way in ("ft", "lp-ft")]
    every = [*tuned, *(found for _, _, found in heads)]
    held = sum(int((found["ood"].min(0) >= least - 1e-12).sum()) for _, least, found in heads[1:])
    ratio = np.concatenate([found["ood"].min(0) / least for _, least, found in heads[1:]])
    here = f"Features off by {told.gaps[SHOWN].mean():.2f}"

    def most(key: str, runs: Sequence[dict[str, np.ndarray]], last: bool = False) -> str:
        return f"at most {max(float((run[key][-1] if last else run[key]).max()) for run in runs):.0e}"

    def less(better: str, worse: str, key: str) -> str:
        return f"by {said(shown[worse][key][-1] - shown[better][key][-1], 3)}"

    rows = [
        ("B does not change outside the training points' span", f"{most('outside', every)}, all runs and times"),
        ("v v' - B B' does not change, which couples head and features", f"{most('unbalanced', every)}, the integrator's"),
        ("FT and LP-FT fit the training points in the end", f"error {most('id', tuned, True)}"),
        ("Perfect features: LP ends without error out of distribution", most("ood", [perfect["lp"]], True)),
        ("Perfect features: LP-FT has none at any time", most("ood", [perfect["lp-ft"]])),
        ("Perfect features: FT from a random head always has some", f"at least {perfect['ft']['ood'].min():.2f}"),
        ("Perfect features, four wrong heads: the bound holds at every time",
         f"{held} of {(len(heads) - 1) * DRAWS} runs; least error {ratio.min():.1f} to {ratio.max():.0f} times the bound"),
        (f"{here}: FT is better than LP in distribution", less("ft", "lp", "id")),
        (f"{here}: LP is better than FT out of it", less("lp", "ft", "ood")),
        (f"{here}: LP-FT is better than LP in it", less("lp-ft", "lp", "id")),
        (f"{here}: LP-FT is better than LP out of it", less("lp-ft", "lp", "ood")),
    ]  # fmt: skip
    return table("what sections 3.2 to 3.4 say | found", rows).replace("---:", "---")


if __name__ == "__main__":
    network_runs = all_runs()
    print(by_off(network_runs), by_head(network_runs), claims(network_runs), sep="\n\n")
