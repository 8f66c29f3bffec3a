"""Pretrain icon-clip: a CLIP of a few million parameters, from scratch, on icons and their names.

    npm install --prefix /tmp/icons @iconify/json@2.2.535
    pip install '.[tools]' && python tools/pretrain_icon_clip.py /tmp/icons/node_modules/@iconify/json /tmp/icon-clip

Four steps, each resumed where it was stopped: the corpus is drawn; the image tower learns to name the concept
(softmax); the text tower is fitted to the cached image features; both are trained together with the contrastive
loss. Then the model is released into `src/likewise/assets/icon-clip/` as an ordinary open_clip folder.
No icon of a designer family that IconShift uses enters, and no near-duplicate of an IconShift picture.
A GPU is used where there is one. Settings are the constants below.
"""

# B images, C concepts, D width, H height, W width of a picture, L tokens of a text, U distinct texts.

from __future__ import annotations

import io
import json
import math
import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import trange

import icons
from likewise.encoders import icon_tower
from pretraining import ASSETS, DEVICE, MEAN, NEAR, STD, Job, augment, draw_corpus, order, read_corpus

NAMING_STEPS, NAMING_RATE, NAMING_BATCH = 2800, 1.5e-3, 256
TEXT_STEPS, TEXT_RATE, TEXT_BATCH = 550, 1e-3, 512
JOINT_STEPS, JOINT_RATE, JOINT_BATCH = 250, 2e-4, 256
MODEL = {
    "embed_dim": 192,
    "vision_cfg": {"timm_model_name": "likewise_icon_vit", "timm_model_pretrained": False, "timm_pool": "avg",
                   "timm_proj": "linear", "image_size": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 4},
}  # fmt: skip
HISTORY = (
    "The released weights come from a run whose lengths were shortened while it ran (naming planned for 3600 steps and cut at",
    "1800, text planned for 1500 and cut at 100), so their learning rates fell faster from there on than the constants above",
    "alone would give; a rerun gives a model much like this one, not the same numbers.",
)
"""What must be said of the released weights and a rerun would not say."""
TEMPLATES = ("{}", "{} icon", "an icon of a {}", "a drawing of a {}", "a picture of a {}", "a {}", "a symbol of a {}",
             "a simple drawing of a {}", "a photo of a {}", "an {} sign", "the {}")  # fmt: skip


# --- texts ------------------------------------------------------------------------------------------------------


def caption(row: dict, rng: random.Random) -> str:
    """The name as one would say it: the concept, or all its words, in a template, word order sometimes changed."""
    text = row["concept"] if rng.random() < 0.8 else row["words"]
    words = text.split()
    if len(words) > 1 and rng.random() < 0.1:
        rng.shuffle(words)
    return rng.choice(TEMPLATES).format(" ".join(words))


# --- training ---------------------------------------------------------------------------------------------------


def learn_names(work: Path, pictures: np.ndarray, rows: list[dict]) -> nn.Module:
    """Step 1: which of the concepts is this? Softmax with label smoothing 0.1."""
    concepts = sorted({r["concept"] for r in rows})
    label = np.array([concepts.index(r["concept"]) for r in rows])
    tower = icon_tower.tower(embed_norm=True, num_classes=len(concepts), drop_path_rate=0.05).to(DEVICE)
    tower.to(memory_format=torch.channels_last)
    job = Job(work / "naming.pt", {"tower": tower}, NAMING_STEPS, NAMING_RATE)
    tower.train()
    mean = 0.0
    for step, bar in job:
        index = order(1, step, NAMING_BATCH, len(rows))
        x_BCHW = augment(pictures[index], np.random.default_rng((2, step)))
        with torch.autocast(DEVICE, torch.bfloat16):
            logits_BC = tower(x_BCHW)
        target = torch.from_numpy(label[index]).to(DEVICE)
        job.update(F.cross_entropy(logits_BC.float(), target, label_smoothing=0.1))
        hit = (logits_BC.argmax(1) == target).float().mean().item()
        mean = 0.98 * mean + 0.02 * hit if step > job.step else hit
        if step % 50 == 0:
            bar.set_postfix(top1=f"{mean:.3f}")
    return tower


def fold(tower: nn.Module) -> nn.Module:
    """The tower with each BatchNorm folded into its convolution, in the released form."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    tower = tower.eval()
    plain = icon_tower.tower(num_classes=0)
    layers = list(tower.patch_embed.layers)
    fused = [fuse_conv_bn_eval(a, b) for a, b in zip(layers, layers[1:], strict=False) if isinstance(b, nn.BatchNorm2d)]
    state = {k: v for k, v in tower.state_dict().items() if not k.startswith(("patch_embed.", "head."))}
    targets = [i for i, layer in enumerate(plain.patch_embed.layers) if isinstance(layer, nn.Conv2d)]
    for i, conv in zip(targets, fused, strict=True):
        state[f"patch_embed.layers.{i}.weight"] = conv.weight
        state[f"patch_embed.layers.{i}.bias"] = conv.bias
    plain.load_state_dict(state)
    return plain


def make_clip(work: Path) -> nn.Module:
    folder = work / "released"
    folder.mkdir(exist_ok=True)
    config = {
        "model_cfg": MODEL,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    torch.manual_seed(0)
    clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False).to(DEVICE)
    return clip


def soft_contrastive(image_BD: Tensor, text_BD: Tensor, scale: Tensor, same_BB: Tensor) -> Tensor:
    """Symmetric InfoNCE in which every pair of one concept is a positive (UniCL, arXiv:2204.03610, equation 3)."""
    logits_BB = scale * F.normalize(image_BD, dim=-1).float() @ F.normalize(text_BD, dim=-1).float().T
    target_BB = same_BB / same_BB.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB))


def texts_of(rows: list[dict], index: np.ndarray, key: tuple[int, int], tokenizer) -> Tensor:
    rng = random.Random(str(key))
    return tokenizer([caption(rows[i], rng) for i in index])


def train_clip(work: Path, pictures: np.ndarray, rows: list[dict], clip: nn.Module) -> None:
    """Steps 2 and 3: the text tower on cached features of plain and augmented views, then everything."""
    tokenizer = open_clip.get_tokenizer(f"local-dir:{work / 'released'}")
    concepts = {c: i for i, c in enumerate(sorted({r["concept"] for r in rows}))}
    label_N = torch.tensor([concepts[r["concept"]] for r in rows], device=DEVICE)

    def same(index: np.ndarray) -> Tensor:
        mine = label_N[torch.from_numpy(index).to(DEVICE)]
        return (mine[:, None] == mine[None, :]).float()

    cache = work / "features.npy"
    if not cache.exists():
        clip.eval()
        views = []
        for view in range(2):
            chunks = []
            for start in trange(0, len(rows), 512, desc=f"features, view {view}", mininterval=20):
                part = pictures[start : start + 512]
                x = augment(part, np.random.default_rng((3, view, start)))
                with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
                    chunks.append(clip.visual.trunk(x).float().cpu())
            views.append(torch.cat(chunks))
        np.save(cache, torch.stack(views).numpy())
    features_VND = torch.from_numpy(np.load(cache)).to(DEVICE)

    clip.visual.trunk.requires_grad_(False)
    job = Job(work / "text.pt", {"clip": clip}, TEXT_STEPS, TEXT_RATE)
    clip.train()
    for step, bar in job:
        index = order(4, step, TEXT_BATCH, len(rows))
        pooled = features_VND[step % len(features_VND), torch.from_numpy(index).to(DEVICE)]
        with torch.autocast(DEVICE, torch.bfloat16):
            image_BD = clip.visual.head(pooled)
            text_BD = encode_short(clip, texts_of(rows, index, (5, step), tokenizer))
        job.update(loss := soft_contrastive(image_BD, text_BD, clip.logit_scale.exp(), same(index)))
        clip.logit_scale.data.clamp_(0, math.log(100))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{clip.logit_scale.exp().item():.1f}")

    clip.visual.trunk.requires_grad_(True)
    job = Job(work / "joint.pt", {"clip": clip}, JOINT_STEPS, JOINT_RATE)
    clip.train()
    for step, bar in job:
        index = order(6, step, JOINT_BATCH, len(rows))
        x = augment(pictures[index], np.random.default_rng((7, step)))
        with torch.autocast(DEVICE, torch.bfloat16):
            image_BD = clip.visual(x)
            text_BD = encode_short(clip, texts_of(rows, index, (8, step), tokenizer))
        job.update(loss := soft_contrastive(image_BD, text_BD, clip.logit_scale.exp(), same(index)))
        clip.logit_scale.data.clamp_(0, math.log(100))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{clip.logit_scale.exp().item():.1f}")


def encode_short(clip: nn.Module, tokens_BL: Tensor) -> Tensor:
    """open_clip's text tower on distinct texts cut after the longest end of text: exact, as attention is causal."""
    tokens_UL, back_B = torch.unique(tokens_BL.to(DEVICE), dim=0, return_inverse=True)
    length = int(tokens_UL.argmax(1).max()) + 1
    tokens_UL = tokens_UL[:, :length]
    x = clip.token_embedding(tokens_UL) + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = clip.ln_final(x)[torch.arange(len(x)), tokens_UL.argmax(1)]
    return (x @ clip.text_projection)[back_B]


# --- release ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def zero_shot(clip: nn.Module, tokenizer) -> dict[str, float]:
    """Top-1 (percent) on IconShift with text prompts, by part: what the model card reports."""
    rows = pq.read_table(ASSETS / "iconshift/images.parquet").to_pylist()
    classes = sorted({r["concept"] for r in rows})
    clip.eval()
    head = []
    for name in classes:
        text = F.normalize(encode_short(clip, tokenizer([t.format(name) for t in TEMPLATES])), dim=-1)
        head.append(F.normalize(text.mean(0), dim=-1))
    head_CD = torch.stack(head)
    hits = defaultdict(list)
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        x = torch.stack([torch.from_numpy(np.asarray(Image.open(io.BytesIO(r["image"])))) for r in part])
        x = (x.permute(0, 3, 1, 2).float().to(DEVICE) / 255 - 0.5) / 0.5
        guess = (F.normalize(clip.visual(x), dim=-1) @ head_CD.T).argmax(1).tolist()
        for row, g in zip(part, guess, strict=True):
            hits[row["domain"] if row["side"] == "ood" else row["side"]].append(classes[g] == row["concept"])
    return {k: round(100 * float(np.mean(v)), 1) for k, v in hits.items()}


def release(package: Path, work: Path, clip: nn.Module, rows: list[dict]) -> None:
    out = ASSETS / "icon-clip"
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{work / 'released'}")
    clip.half().float()  # what is released is what is measured
    scores = zero_shot(clip, tokenizer)
    state = {k: v.half().contiguous() for k, v in clip.state_dict().items() if k != "attn_mask"}
    save_file(state, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    (out / "open_clip_config.json").write_text((work / "released/open_clip_config.json").read_text())
    table = pa.Table.from_pylist([{k: r[k] for k in ("set", "name", "family", "concept", "phash")} for r in rows])
    pq.write_table(table, out / "pretraining.parquet", compression="zstd")
    about = icons.collections(package)
    per_set = Counter((r["set"], r["family"]) for r in rows)
    ood = [v for k, v in scores.items() if k not in ("train", "select", "report")]
    numbers = sum(v.numel() for v in state.values())
    text = [
        "# icon-clip: model card", "",
        f"A CLIP at 64 px with {numbers / 1e6:.1f} million parameters ({numbers * 2 / 1e6:.0f} MB in fp16): image tower "
        "`likewise_icon_vit` (a stem of six convolutions, stride 16, then six transformer blocks of width 192 on 16",
        "tokens), text tower of four blocks of width 192 with CLIP's tokenizer and a context of 32 tokens.",
        "Built by `tools/pretrain_icon_clip.py` from scratch; an ordinary open_clip folder (`local-dir:`),",
        "once `likewise.encoders` is imported, which registers the image tower.", "",
        "## How it was trained", "",
        f"On {len(rows)} icons of {len({r['concept'] for r in rows})} concepts from {len(per_set)} permissively licensed sets:",
        f"names that, without style words, occur in at least {icons.sources()['pretrain_min_sets']} sets, at most",
        f"{icons.sources()['pretrain_max_per_set']} drawings per set and name; no logos, no flags; no family that IconShift",
        f"uses; no drawing whose perceptual hash is within {NEAR} bits of an IconShift picture (`pretraining.parquet` lists",
        "every drawing with its hash).",
        f"1. The image tower names the concept: {NAMING_STEPS} steps of {NAMING_BATCH}, softmax, label smoothing 0.1,",
        f"   AdamW {NAMING_RATE}, cosine, bf16; its BatchNorms are then folded into the convolutions.",
        f"2. The text tower is fitted on cached image features: {TEXT_STEPS} steps of {TEXT_BATCH}, contrastive, same-concept",
        "   pairs positive.",
        f"3. Both together: {JOINT_STEPS} steps of {JOINT_BATCH}, AdamW {JOINT_RATE}.", "",
        *HISTORY, "",
        "## What it scores", "",
        "Zero-shot top-1 on IconShift (percent), prompts from the pretraining templates, one run:", "",
        "| part | top-1 |", "|---|---:|", *[f"| {k} | {v} |" for k, v in scores.items()],
        f"| mean of the styles | {np.mean(ood):.1f} |", "",
        "## What it cannot do", "",
        "Anything but small, single drawings of common things. It has seen no photograph; words outside icon names are",
        "random to it. It exists so that the methods can be learned and tested on real pretrained weights without a download.", "",
        "## Sources and licences", "",
        "| set | title | author | licence | family | drawings |", "|---|---|---|---|---|---:|",
    ]  # fmt: skip
    for (prefix, kin), n in sorted(per_set.items()):
        info = about[prefix]
        text.append(f"| {prefix} | {info['name']} | [{info['author']['name']}]({info['author'].get('url', '')}) | "
                    f"[{info['license']['title']}]({info['license'].get('url', '')}) | {kin} | {n} |")  # fmt: skip
    (out / "card.md").write_text("\n".join(text) + "\n")
    typer.echo(f"{scores}\nmean of styles {np.mean(ood):.1f}; {numbers / 1e6:.2f} M parameters -> {out}")


def main(package: Path, work: Path) -> None:
    started = time.time()
    draw_corpus(package, work)
    pictures, rows = read_corpus(work)
    tower = learn_names(work, pictures, rows)
    clip = make_clip(work)
    clip.visual.trunk.load_state_dict(fold(tower).state_dict())
    train_clip(work, pictures, rows, clip)
    release(package, work, clip, rows)
    typer.echo(f"{(time.time() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    typer.run(main)
