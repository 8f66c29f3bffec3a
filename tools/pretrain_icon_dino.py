"""Pretrain icon-dino: a small ViT that never saw a word, by self-distillation on icons without their names.

    npm install --prefix /tmp/icons @iconify/json@2.2.535
    pip install '.[tools]'
    OMP_NUM_THREADS=1 python tools/pretrain_icon_dino.py /tmp/icons/node_modules/@iconify/json /tmp/icon-dino

DINO (Caron et al. 2021, arXiv:2104.14294; section 3 and appendix) on the corpus of `pretrain_icon_clip.py`, drawn first where it is not there
(or linked into the work folder). Killed anywhere, the same command goes on from the last checkpoint. At the end the
teacher is released into `src/likewise/assets/icon-dino/` as an ordinary timm folder.

Departs: 2,048 prototypes (65,536), a BatchNorm in the head (none with ViTs), local crops of 20 to 50 % of a drawing (5 to
40 % of a photograph: less shows nothing of an icon), four of them (eight), the teacher's temperature raised over 30 % of the
steps (30 of 300 epochs), colours of ink and paper drawn for each crop in the place of colour jitter; and a length that a CPU
bears, which is too short: see the card for what it is worth.

`--supervised` trains the same ViT to name the concepts instead, for `src/likewise/assets/icon-vit/`: a vision encoder
that saw labels and no text. `--release-now` releases the last checkpoint of a run that is not over, and says so.
A GPU is used where there is one. Settings are the constants below.
"""

# B pictures, C concepts, D width, H height, W width of a picture, N pictures of a split.

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
import torch.nn.functional as F
import typer
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn

from likewise.data.records import Dataset, Split
from likewise.datasets import DATASETS
from likewise.judge import Labelled, judged, knn
from likewise.metrics import accuracy
from pretraining import (
    ASSETS,
    DEVICE,
    MEAN,
    NEAR,
    STD,
    Draws,
    Job,
    augment,
    between,
    draw_corpus,
    normal,
    order,
    painted,
    pixelated,
    placed,
    read_corpus,
)

warnings.filterwarnings("ignore", message=".*weight_norm.*", category=FutureWarning)  # lightly's last layer

ARCHITECTURE = "vit_tiny_r_s16_p8_224"
SHAPE = {"img_size": 64, "patch_size": 4, "depth": 6}
"""timm's `model_args`: a convolution of 7 x 7 with GroupNorm and pooling (stride 4), 16 tokens of 4 x 4 of its pixels and a
class token, six blocks of width 192. Early convolutions are what learns on a CPU's budget (Xiao et al. 2021,
arXiv:2106.14881); the plain `vit_tiny_patch16_224` costs three quarters as much a picture, in patches of 8 three times."""

STEPS, BATCH, RATE = 2400, 64, 5e-4
DECAY, MOMENTUM = (0.04, 0.4), 0.996
TEMPERATURES, WARM_TEMPERATURE, STUDENT_TEMPERATURE = (0.04, 0.07), 0.3, 0.1
"""The teacher's temperature at the start and after this fraction of the steps; the student's."""
HIDDEN, BOTTLENECK, PROTOTYPES = 1024, 256, 2048
GLOBAL_AREA, LOCAL_AREA, LOCALS, LOCAL_SIZE = (0.5, 1.2), (0.2, 0.5), 4, 32
"""Shares of the drawing that a crop shows; above 1 it shows paper around it. How many local crops, of what size."""
BLUR = (1.0, 0.1, 0.5)  # how often: the first global crop, the second, local crops
NAMING_STEPS, NAMING_RATE, NAMING_BATCH = 4600, 1e-3, 128
LOG_EVERY, LOOK_EVERY = 25, 250
WORDS = {True: ("naming", "icon-vit"), False: ("dino", "icon-dino")}


# --- views ------------------------------------------------------------------------------------------------------


def view(rgba_BHW4: np.ndarray, draws: Draws, area: tuple[float, float], size: int, blur: float) -> Tensor:
    """One crop of each drawing, in its own colours: moved, turned, stretched, mirrored, sometimes blurred or coarse."""
    ink, paper = painted(rgba_BHW4, draws, coloured=0.3, inverted=0.1)
    side = draws.uniform(*area).sqrt()
    stretch = draws.uniform(-0.25, 0.25).exp()
    width, height = side * stretch, side / stretch
    turn = draws.uniform(-0.25, 0.25) * draws.coin(0.3)
    mirror = 1 - 2 * draws.coin(0.5).float()
    right, down = draws.uniform(-1, 1) * (1 - width).abs(), draws.uniform(-1, 1) * (1 - height).abs()
    theta = torch.stack([torch.stack([mirror * width * turn.cos(), -height * turn.sin(), right], 1),
                         torch.stack([mirror * width * turn.sin(), height * turn.cos(), down], 1)], 1)  # fmt: skip
    picture = pixelated(placed(ink, paper, theta, size), draws)
    soft = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = draws.coin(blur, 1, 1, 1) * draws.uniform(0, 1, 1, 1, 1)
    return normal(torch.lerp(picture, soft, share))


def views(rgba_BHW4: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
    """Two global crops, then the local ones."""
    draws, size = Draws(len(rgba_BHW4), rng), SHAPE["img_size"]
    return [
        *(view(rgba_BHW4, draws, GLOBAL_AREA, size, blur) for blur in BLUR[:2]),
        *(view(rgba_BHW4, draws, LOCAL_AREA, LOCAL_SIZE, BLUR[2]) for _ in range(LOCALS)),
    ]


# --- models -----------------------------------------------------------------------------------------------------


def vit(**more: object) -> nn.Module:
    """The encoder, from a fixed seed; `dynamic_img_size` lets it see local crops and adds nothing to the weights."""
    torch.manual_seed(0)
    return timm.create_model(ARCHITECTURE, **{"num_classes": 0, **SHAPE, "dynamic_img_size": True, **more}).to(DEVICE)


class Branch(nn.Module):
    """A student or a teacher: the encoder and DINO's projection head."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.trunk = vit(drop_path_rate=drop)
        self.head = DINOProjectionHead(
            self.trunk.num_features, HIDDEN, BOTTLENECK, PROTOTYPES, batch_norm=True, freeze_last_layer=1
        ).to(DEVICE)

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        """Scores of the prototypes for each view; views of one size go through the encoder together."""
        sizes = [v.shape[-1] for v in views]
        with torch.autocast(DEVICE, torch.bfloat16):
            rows = [self.trunk(torch.cat([v for v in views if v.shape[-1] == s])) for s in dict.fromkeys(sizes)]
            scores = self.head(torch.cat(rows)).float()
        return list(scores.chunk(len(views)))


def self_distil(work: Path, pictures: np.ndarray, rows: list[dict], train: bool = True) -> Job:
    """DINO's algorithm 1 with multi-crop; in `modules["teacher"]` is what is released."""
    student, teacher = Branch(drop=0.05), Branch()
    teacher.load_state_dict(student.state_dict())
    deactivate_requires_grad(teacher)
    loss = DINOLoss(PROTOTYPES, student_temp=STUDENT_TEMPERATURE).to(DEVICE)
    job = Job(work / "dino.pt", {"student": student, "teacher": teacher, "loss": loss}, STEPS, RATE,
              decay=DECAY, betas=(0.9, 0.999), warm=0.1, clip=3.0, quiet=True)  # fmt: skip
    if not train:
        return job
    student.train(), teacher.train()  # the head's BatchNorm reads the batch; nothing of the teacher is dropped
    log = Log(work, job, teacher.trunk)
    for step, _ in job:
        torch.manual_seed(step)  # dropped paths, so that a resumed run is the same run
        crops = views(pictures[order(1, step, BATCH, len(rows))], np.random.default_rng((2, step)))
        with torch.no_grad():
            aims = teacher(crops[:2])
        low, high = TEMPERATURES
        temperature = low + (high - low) * min(1.0, step / (WARM_TEMPERATURE * STEPS))
        value = loss(aims, student(crops), teacher_temp=temperature)
        epoch = step * BATCH // len(rows)
        job.update(value, lambda epoch=epoch: student.head.cancel_last_layer_gradients(epoch))
        update_momentum(student, teacher, between(MOMENTUM, 1.0, step / STEPS))
        # what the teacher is sure of, and whether it is sure of the same thing for every picture
        shares = torch.softmax((torch.cat(aims) - loss.center[0]) / temperature, dim=1)
        log.line(step, teacher.trunk, loss=value.item(), entropy=entropy(shares).mean().item(),
                 spread=entropy(shares.mean(0, keepdim=True)).item())  # fmt: skip
    return job


def entropy(shares_BP: Tensor) -> Tensor:
    return -(shares_BP * shares_BP.clamp_min(1e-12).log()).sum(1)


def learn_names(work: Path, pictures: np.ndarray, rows: list[dict], train: bool = True) -> Job:
    """The same ViT told the concepts: softmax, label smoothing 0.1; in `modules["trunk"]`, its head beside it."""
    concepts = sorted({r["concept"] for r in rows})
    place = {concept: i for i, concept in enumerate(concepts)}
    label = torch.tensor([place[r["concept"]] for r in rows], device=DEVICE)
    trunk = vit(drop_path_rate=0.05)
    head = nn.Linear(trunk.num_features, len(concepts)).to(DEVICE)
    job = Job(work / "naming.pt", {"trunk": trunk, "head": head}, NAMING_STEPS, NAMING_RATE, quiet=True)
    if not train:
        return job
    trunk.train()
    log = Log(work, job, trunk)
    for step, _ in job:
        torch.manual_seed(step)
        index = order(1, step, NAMING_BATCH, len(rows))
        x_BCHW = augment(pictures[index], np.random.default_rng((2, step)))
        with torch.autocast(DEVICE, torch.bfloat16):
            logits_BC = head(trunk(x_BCHW))
        target = label[torch.from_numpy(index).to(DEVICE)]
        value = F.cross_entropy(logits_BC.float(), target, label_smoothing=0.1)
        job.update(value)
        log.line(step, trunk, loss=value.item(), top1=(logits_BC.argmax(1) == target).float().mean().item())
    return job


# --- looking ----------------------------------------------------------------------------------------------------


def pixels(split: Split, size: int = SHAPE["img_size"]) -> Tensor:
    """A split's pictures as the encoder sees them; IconShift's are 64 x 64 already."""
    arrays = [np.asarray(split.open(i).convert("RGB")) for i in range(len(split))]
    x_N3HW = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
    return normal(x_N3HW if x_N3HW.shape[-1] == size else F.interpolate(x_N3HW, (size, size), mode="area"))


@torch.no_grad()
def features(trunk: nn.Module, x_N3HW: Tensor) -> Tensor:
    training = trunk.training
    trunk.eval()
    found = torch.cat([trunk(part.to(DEVICE)).float().cpu() for part in x_N3HW.split(128)])
    trunk.train(training)
    return found


class Log:
    """A line every so often, with the means since the last one; and kNN (k = 20) from IconShift's train to its select.

    IconShift's report splits are not looked at while anything can still be changed.
    """

    def __init__(self, work: Path, job: Job, trunk: nn.Module) -> None:
        data = DATASETS["iconshift"]()
        self.parts = [(pixels(split), split.labels_N) for split in (data.train, data.select)]
        self.classes, self.job, self.path = len(data.classes), job, work / "looks.tsv"
        self.sums: dict[str, float] = {}
        self.count, self.wall, self.spent = 0, time.monotonic(), time.process_time()
        typer.echo(f"{job.path.stem}: step {job.step} of {job.steps}; kNN (k = 20) on select by pixels alone "
                   f"{100 * self.pixels_alone():.1f} %, of the encoder {100 * self.share(trunk):.1f} %")  # fmt: skip

    def pixels_alone(self) -> float:
        """What kNN makes of the drawings as 16 x 16 pixels: below this the encoder has lost what anybody sees."""
        return self.knn(*(Labelled(F.adaptive_avg_pool2d(x, 16).flatten(1), labels) for x, labels in self.parts))

    def share(self, trunk: nn.Module) -> float:
        return self.knn(*(Labelled(features(trunk, x), labels) for x, labels in self.parts))

    def knn(self, bank: Labelled, test: Labelled) -> float:
        return accuracy(knn(bank, test.features_ND, self.classes, (20,))[20].logits_MC, test.labels_N).value

    def line(self, step: int, trunk: nn.Module, **numbers: float) -> None:
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number
        self.count += 1
        last = step + 1 == self.job.steps
        if (step + 1) % LOG_EVERY == 0 or last:
            wall, spent = time.monotonic(), time.process_time()
            means = "  ".join(f"{name} {total / self.count:.3f}" for name, total in self.sums.items())
            typer.echo(f"{time.strftime('%H:%M:%S')}  step {step + 1}/{self.job.steps}  {means}  "
                       f"{1000 * (wall - self.wall) / self.count:.0f} ms a step "
                       f"({1000 * (spent - self.spent) / self.count:.0f} of CPU)")  # fmt: skip
            self.sums, self.count, self.wall, self.spent = {}, 0, wall, spent
        if (step + 1) % LOOK_EVERY == 0 or last:
            share = self.share(trunk)
            typer.echo(f"          kNN (k = 20) on select: {100 * share:.1f} %")
            with self.path.open("a") as file:
                file.write(f"{self.job.path.stem}\t{step + 1}\t{share:.4f}\n")
            self.wall, self.spent = time.monotonic(), time.process_time()


# --- release ----------------------------------------------------------------------------------------------------


def release(work: Path, job: Job, rows: list[dict], supervised: bool) -> None:
    name = WORDS[supervised][1]
    out = ASSETS / name
    trained = job.modules["trunk"] if supervised else job.modules["teacher"].trunk
    model = timm.create_model(ARCHITECTURE, num_classes=0, **SHAPE)
    model.load_state_dict(trained.state_dict())
    about = {"input_size": (3, SHAPE["img_size"], SHAPE["img_size"]), "mean": MEAN, "std": STD, "crop_pct": 1.0,
             "crop_mode": "squash", "interpolation": "bicubic", "license": "mit", "tag": name}  # fmt: skip
    timm.models.save_for_hf(
        model.half(), str(out), model_config={"pretrained_cfg": about}, model_args=SHAPE, safe_serialization=True
    )
    (out / "model.safetensors").chmod(0o644)
    again = timm.create_model(f"local-dir:{out}", pretrained=True).float().to(DEVICE)  # what is released is measured
    check_corpus(rows)
    numbers = sum(p.numel() for p in again.parameters())
    (out / "card.md").write_text("\n".join(card(job, again, rows, supervised, numbers)) + "\n")
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{numbers / 1e6:.2f} M parameters, {size / 1e6:.1f} MB -> {out}")


def check_corpus(rows: list[dict]) -> None:
    """The list of drawings that icon-clip ships is this corpus's too. Raises where it is not."""
    table = pq.read_table(ASSETS / "icon-clip/pretraining.parquet", columns=["set", "name", "phash"]).to_pylist()
    if table != [{key: row[key] for key in ("set", "name", "phash")} for row in rows]:
        raise ValueError("the corpus is not icon-clip's; draw both anew from one version of the package")


def scores(trunk: nn.Module, data: Dataset) -> Iterator[tuple[str, list[float]]]:
    """kNN (k = 20) and linear probe, in percent, of each split: of the encoder, of itself untrained, of the pixels."""
    untrained = vit()
    see = {
        "trained": lambda split: features(trunk, pixels(split)),
        "untrained": lambda split: features(untrained, pixels(split)),
        "pixels": lambda split: F.adaptive_avg_pool2d(pixels(split), 16).flatten(1),
    }
    columns, report = [], data.read_report("the model card")
    for take in see.values():
        made = {s.name: Labelled(take(s), s.labels_N) for s in (data.train, data.select, *report.values())}
        bank, select = made.pop("train"), made["select"]
        columns.append(judged(bank, select, made, len(data.classes), ks=(20,)).scores)
    for split in columns[0]:
        yield split, [100 * column[split][m].value for m in ("knn@20", "linear") for column in columns]


def card(job: Job, trunk: nn.Module, rows: list[dict], supervised: bool, numbers: int) -> list[str]:
    name = WORDS[supervised][1]
    sets, concepts = len({r["set"] for r in rows}), len({r["concept"] for r in rows})
    how = [
        f"It learns to name the concept of a drawing (softmax over {concepts}, label smoothing 0.1): {job.step} steps of",
        f"{NAMING_BATCH}, AdamW {NAMING_RATE:g}, weight decay 0.05, cosine, bf16. No text is read: a concept is a number.",
    ] if supervised else [
        "By self-distillation (DINO, Caron et al. 2021, arXiv:2104.14294), with lightly's loss and projection head: two",
        f"global crops of 64 px and {LOCALS} local ones of {LOCAL_SIZE} px, each with its own colours; {job.step} steps of {BATCH},",
        f"AdamW {RATE:g} (warm-up a tenth of the steps, then cosine), weight decay {DECAY[0]:g} to {DECAY[1]:g}, teacher momentum {MOMENTUM:g} to 1,",
        f"teacher temperature {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g} over the first {WARM_TEMPERATURE:.0%}, student {STUDENT_TEMPERATURE:g}, {PROTOTYPES} prototypes, last layer",
        "held in the first epoch, bf16. Names and concepts of the drawings are not read. The teacher is released.",
    ]  # fmt: skip
    found = dict(scores(trunk, DATASETS["iconshift"]()))
    ours, _, theirs = found["select"][:3]
    weak = [
        "**Its features are worth less than the pictures' own pixels** on IconShift (neighbours, select split), so it is no stand-in",
        "for a DINO that was trained at length: it is here to run that kind of encoder offline. Where features matter, use icon-vit.",
        "",
    ]  # fmt: skip
    if job.step < job.steps:
        how.append(f"The run was planned for {job.steps} steps and released before its end.")
    return [
        f"# {name}: model card", "",
        f"A vision transformer at 64 px with {numbers / 1e6:.1f} million parameters ({numbers * 2 / 1e6:.0f} MB in fp16): timm's `{ARCHITECTURE}`",
        f"with {', '.join(f'{k} {v}' for k, v in SHAPE.items())}; its feature is the class token after the final norm, width 192.",
        "Built by `tools/pretrain_icon_dino.py` from scratch; an ordinary timm folder (`local-dir:`).", "",
        "## How it was trained", "",
        f"On the {len(rows)} drawings from {sets} sets that icon-clip was pretrained on: no family that IconShift uses, and no",
        f"drawing whose perceptual hash is within {NEAR} bits of an IconShift picture. `pretraining.parquet` in `icon-clip` lists",
        "every drawing.", "", *how, "",
        "## What it scores", "",
        "IconShift, top-1 in percent, its train pictures as bank; beside it the same ViT untrained, and the pictures' 16 x 16",
        "pixels. `select` chose the probe's strength; the other splits were read once, after training.", "",
        "| split | kNN (k = 20) | untrained | pixels | linear | untrained | pixels |", "|---|---:|---:|---:|---:|---:|---:|",
        *(f"| {split} | " + " | ".join(f"{x:.1f}" for x in row) + " |" for split, row in found.items()), "",
        *(weak if ours < theirs else ()),
        "## What it cannot do", "",
        "Anything but small, single drawings of common things. It has seen no photograph. It exists so that the methods can",
        "be learned and tested on real pretrained weights without a download.", "",
        "## Sources and licences", "",
        f"The drawings are those of icon-clip: its card (`icon-clip/card.md`) names each of the {sets} sets with its author and",
        "licence (all permissive: MIT, Apache-2.0, ISC, CC0, CC BY, OFL, BSD, MPL, Unlicense). The weights hold no drawing.",
    ]  # fmt: skip


def main(package: Path, work: Path, supervised: bool = False, release_now: bool = False) -> None:
    started = time.monotonic()
    draw_corpus(package, work)
    pictures, rows = read_corpus(work)
    job = (learn_names if supervised else self_distil)(work, pictures, rows, train=not release_now)
    release(work, job, rows, supervised)
    typer.echo(f"{(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    typer.run(main)
