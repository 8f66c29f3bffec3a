"""What the pretraining scripts beside this file share: the corpus, how drawings are painted, a resumable job."""

# B drawings of a batch, H height, W width of a picture.

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

import icons
from likewise.data.hashing import distances, perceptual_hash

ASSETS = Path(__file__).parent.parent / "src/likewise/assets"
NEAR = 4  # bits of 64: a drawing this near to an IconShift picture is left out
SAVE_EVERY, SAVE_SECONDS = 100, 180
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


# --- corpus -----------------------------------------------------------------------------------------------------


def draw_corpus(package: Path, work: Path) -> None:
    """`corpus.npy` (rgba_NHW4) and `corpus.parquet` (set, name, family, concept, words, phash)."""
    if (work / "corpus.parquet").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    chosen = icons.sources()
    seen: dict[str, set[str]] = defaultdict(set)
    by_set = {prefix: list(icons.read(package, prefix)) for prefix in icons.pretraining_sets(package)}
    for prefix, members in by_set.items():
        for icon in members:
            seen[icons.concept(icon.words)].add(prefix)
    frequent = {c for c, sets in seen.items() if len(sets) >= chosen["pretrain_min_sets"] and len(c) > 1}
    shift = pq.read_table(ASSETS / "iconshift/images.parquet", columns=["phash"])["phash"].to_pylist()
    known = np.array([int(h, 16) for h in shift], dtype=np.uint64)
    pictures, rows, near = [], [], 0
    for prefix, members in by_set.items():
        taken: Counter[str] = Counter()
        for icon in members:
            concept = icons.concept(icon.words)
            if concept not in frequent or taken[concept] >= chosen["pretrain_max_per_set"]:
                continue
            rgba = icons.render(icon)
            code = perceptual_hash(Image.fromarray(icons.on_white(rgba)))
            if rgba[..., 3].max() < 64:
                continue
            if distances(known, code).min() <= NEAR:
                near += 1
                continue
            taken[concept] += 1
            pictures.append(rgba)
            rows.append({"set": prefix, "name": icon.name, "family": icon.family, "concept": concept,
                         "words": " ".join(icon.words), "phash": f"{code:016x}"})  # fmt: skip
    np.save(work / "corpus.npy", np.stack(pictures))
    pq.write_table(pa.Table.from_pylist(rows), work / "corpus.parquet", compression="zstd")
    typer.echo(
        f"corpus: {len(rows)} drawings, {len({r['concept'] for r in rows})} concepts, {near} near-duplicates left out"
    )


def read_corpus(work: Path) -> tuple[np.ndarray, list[dict]]:
    """rgba_NHW4, read from the disk as it is asked for, and the rows that say what each drawing is."""
    return np.load(work / "corpus.npy", mmap_mode="r"), pq.read_table(work / "corpus.parquet").to_pylist()


# --- pictures ---------------------------------------------------------------------------------------------------


class Draws:
    """Random numbers for a batch, by key."""

    def __init__(self, batch: int, rng: np.random.Generator) -> None:
        self.batch, self.rng = batch, rng

    def coin(self, p: float, *shape: int) -> Tensor:
        return torch.from_numpy(self.rng.random((self.batch, *shape)) < p).to(DEVICE)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(self.rng.uniform(low, high, (self.batch, *shape)).astype(np.float32)).to(DEVICE)


def painted(
    rgba_BHW4: np.ndarray, draws: Draws, coloured: float = 0.3, inverted: float = 0.05
) -> tuple[Tensor, Tensor]:
    """(colour times alpha, alpha) as ink_B4HW, and the paper's colour: mostly black on white; some thick, some thin.

    `coloured` and `inverted` are the shares of drawings with random ink and paper, and of those of one ink turned
    light on dark.
    """
    rgba = torch.from_numpy(np.array(rgba_BHW4)).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    mono = (colour * alpha).amax((1, 2, 3)) < 0.05
    thick = F.max_pool2d(alpha, 3, 1, 1)
    thin = -F.max_pool2d(-alpha, 3, 1, 1)
    pick = draws.uniform(0, 1, 1, 1, 1)
    single = mono[:, None, None, None]
    alpha = torch.where((pick < 0.15) & single, thick, torch.where((pick > 0.95) & single, 0.5 * (alpha + thin), alpha))
    paint = draws.coin(coloured, 1, 1, 1)
    ink = torch.where(paint, draws.uniform(0, 1, 3, 1, 1), torch.zeros((), device=DEVICE))
    colour = torch.where(single, ink.expand_as(colour), colour)
    paper = torch.where(paint, draws.uniform(0, 1, 3, 1, 1), torch.ones((), device=DEVICE))
    negative = draws.coin(inverted, 1, 1, 1) & single
    colour, paper = torch.where(negative, 1 - colour, colour), torch.where(negative, 1 - paper, paper)
    return torch.cat([colour * alpha, alpha], 1), paper


def placed(ink_B4HW: Tensor, paper_B311: Tensor, theta_B23: Tensor, size: int = icons.SIZE) -> Tensor:
    """The painted drawing under an affine map, laid on its paper, as rgb_B3HW in 0 to 1."""
    grid = F.affine_grid(theta_B23, [len(theta_B23), 4, size, size], align_corners=False)
    moved = F.grid_sample(ink_B4HW, grid, align_corners=False)
    return moved[:, :3] + paper_B311 * (1 - moved[:, 3:])


def pixelated(picture_B3HW: Tensor, draws: Draws, share: float = 0.1) -> Tensor:
    """Some of the pictures in coarse squares."""
    size, coarse = picture_B3HW.shape[-1], int(draws.rng.integers(14, 28))
    blocks = F.interpolate(F.interpolate(picture_B3HW, (coarse, coarse), mode="area"), size, mode="nearest")
    return torch.where(draws.coin(share, 1, 1, 1), blocks, picture_B3HW)


def normal(picture_B3HW: Tensor) -> Tensor:
    return ((picture_B3HW - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


def augment(rgba_BHW4: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Drawings on paper, as a network sees them: moved, turned and stretched a little, sometimes pixelated."""
    draws = Draws(len(rgba_BHW4), rng)
    ink, paper = painted(rgba_BHW4, draws)
    turn = draws.uniform(-0.2, 0.2) * draws.coin(0.3)
    zoom_x, zoom_y = draws.uniform(0.85, 1.25), draws.uniform(0.85, 1.25)
    theta = torch.stack([torch.stack([zoom_x * turn.cos(), -zoom_y * turn.sin(), draws.uniform(-0.2, 0.2)], 1),
                         torch.stack([zoom_x * turn.sin(), zoom_y * turn.cos(), draws.uniform(-0.2, 0.2)], 1)], 1)  # fmt: skip
    return normal(pixelated(placed(ink, paper, theta), draws))


# --- training ---------------------------------------------------------------------------------------------------


class Job:
    """A resumable training run: modules, AdamW, cosine rate, a file.

    `decay` is the weight decay of matrices, or the two ends of its cosine. `quiet` leaves the progress bar out.
    """

    def __init__(
        self, path: Path, modules: dict[str, nn.Module], steps: int, rate: float, *,
        decay: float | tuple[float, float] = 0.05, betas: tuple[float, float] = (0.9, 0.98),
        warm: float = 0.05, clip: float = 1.0, quiet: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.modules, self.steps, self.rate = path, modules, steps, rate
        self.decay = decay if isinstance(decay, tuple) else (decay, decay)
        self.warm, self.clip, self.quiet = warm, clip, quiet
        named = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [{"params": [p for p in named if p.ndim > 1], "weight_decay": self.decay[0]},
             {"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0}], lr=rate, betas=betas)  # fmt: skip
        self.step = 0
        if path.exists():
            state = torch.load(path, map_location=DEVICE, weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state[name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        state = {name: m.state_dict() for name, m in self.modules.items()}
        torch.save(
            {**state, "optimizer": self.optimizer.state_dict(), "step": self.step}, self.path.with_suffix(".tmp")
        )
        self.path.with_suffix(".tmp").replace(self.path)

    def __iter__(self) -> Iterator[tuple[int, tqdm]]:
        bar = tqdm(range(self.step, self.steps), initial=self.step, total=self.steps, desc=self.path.stem,
                   mininterval=20, disable=self.quiet)  # fmt: skip
        saved = time.monotonic()
        for step in bar:
            warm = min(1.0, (step + 1) / (self.warm * self.steps))
            self.optimizer.param_groups[0]["weight_decay"] = between(*self.decay, step / self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            yield step, bar
            self.step = step + 1
            late = time.monotonic() - saved > SAVE_SECONDS
            if late or self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self.save()
                saved = time.monotonic()

    def update(self, loss: Tensor, graded: Callable[[], None] | None = None) -> None:
        """A step of the optimiser. `graded` is called when the gradients are there, before they are clipped."""
        self.optimizer.zero_grad()
        loss.backward()
        if graded:
            graded()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], self.clip)
        self.optimizer.step()


def between(start: float, end: float, done: float) -> float:
    """The value of a half cosine from start to end, of which the fraction `done` is over."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def order(seed: int, step: int, batch: int, n: int) -> np.ndarray:
    """The rows of one step: a permutation an epoch, keyed, so that a resumed run goes on with the same data."""
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    out = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        permutation = np.random.default_rng((seed, int(epoch))).permutation(n)
        out[epochs == epoch] = permutation[positions[epochs == epoch] % n]
    return out
