"""The laws that every recipe inherits. They run over `RECIPES` itself, so none can stay away."""

# B images, C classes, D shared width.

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from likewise.adapters import add, grafted
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads import Conditional, Given, text_head
from likewise.predict import placed, predict
from likewise.recipe import Recipe, joint, then
from likewise.recipes import RECIPES
from likewise.run.method import fit_method
from likewise.run.planning import plans
from likewise.run.planning import trained as trained_names
from likewise.run.tuned import points
from tiny import MODELS, make_job, pixels, shrunk
from vision import BLOCKLESS, IN_BLOCKS, KINDS, ON_VISION, PAIRS

ALL = [*((kind, name) for kind in ("plain", "icon") for name in RECIPES), *ON_VISION]
"""Every recipe on open_clip's own tower and on timm's; those for captions on vision encoders beside a text tower."""
STILL = [*ALL, *(("resnet", name) for name in ("ln", "ft", "flyp"))]
"""And where there are running statistics to disturb."""
Get = Callable[[str, str], Any]


def named(recipe: Recipe, encoder: Encoder) -> set[str]:
    """What the recipe's stages name, head and adapters included."""
    return set(trained_names(recipe, plans(recipe, encoder, 3, 18)))


def start_of(run: Any) -> dict[str, torch.Tensor]:
    """Every number of the encoder before training, by our names, what the recipe adds included."""
    adapters = [adapter.for_classes(3) for adapter in run.recipe.adapters]
    with grafted(run.job.encoder, adapters, run.job.seed):
        return run.job.encoder.state()


def test_every_recipe_is_under_the_laws() -> None:
    assert {name for _, name in ALL} == set(RECIPES)
    assert {kind for kind, _ in STILL} <= {*MODELS, *PAIRS}


@pytest.mark.parametrize("kind", BLOCKLESS)
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_what_stands_in_blocks_is_refused_where_there_are_none(
    fresh: Callable[[str], Encoder], kind: str, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"no transformer blocks") as caught:
        plans(RECIPES[name], fresh(kind), 3, 18)
    assert "text." not in str(caught.value)  # what it offers is of the tower that was asked for


@pytest.mark.parametrize(("kind", "name"), STILL)
def test_held(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    ours = named(run.recipe, run.job.encoder)
    held = [n for n in run.before if n not in ours]
    plain = {n for n in ours if not n.startswith(("head.", "adapters."))}
    assert len(held) + len(plain) == len(run.before)
    for n in held:  # parameters that were not named, and all buffers, at the last step
        assert torch.equal(run.during[n], run.before[n]), n
    assert list(run.after) == list(run.before)
    for n in run.before:  # and the encoder is handed back as it came
        assert torch.equal(run.after[n], run.before[n]), n
    assert not run.job.encoder.module.training
    assert not any(p.requires_grad for p in run.job.encoder.module.parameters())
    assert not run.job.encoder.grafts.seams


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_moved(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    ours = named(run.recipe, run.job.encoder)
    assert set(run.tuned.values) == {n for n in ours if not n.startswith("head.")}
    before = start_of(run)
    for n, value in run.tuned.values.items():
        assert not torch.equal(value, before[n]), n
        if n in run.during and not run.recipe.soup:
            assert torch.equal(value, run.during[n]), n  # what is kept is what the last step left
    moved = {n.removeprefix("head.") for n in ours if n.startswith("head.")}
    if moved:
        job = run.job
        labels_N = torch.from_numpy(job.data.train.labels_N)
        given = Given(job.encoder, job.prompts, labels_N, job.train_features, job.seed)
        if isinstance(run.recipe.head, Conditional):
            job.encoder.grafts.remove()
            add(job.encoder, run.recipe.adapters, job.seed)
            given.prompts = job.prompts_of(run.recipe.adapters)
        start = run.recipe.head.build(given).state_dict()
        job.encoder.grafts.remove()
        for n in moved:
            assert not torch.equal(run.tuned.head.state_dict()[n], start[n]), n


def block(width: int) -> int:
    """qkv, out, up, down with biases, and two norms."""
    return (3 * width * width + 3 * width) + (width * width + width) + (8 * width * width + 5 * width) + 4 * width


IMAGE = {"plain": (2, 32), "icon": (6, 192)}
"""Depth and width of the tiny image towers; the text towers have depth 2 and width 16, the shared space 16."""


def closed_form(kind: str, pattern: str) -> int:
    """How many pretrained numbers a pattern names on a tiny encoder, from its configuration."""
    depth, width = IMAGE[kind]
    channels = (24, 48, 48, 96, 96, 192)
    stem = sum(9 * i * o + o for i, o in zip((3, *channels), channels, strict=False))
    begins = 3 * 8 * 8 * 32 + 32 + 5 * 32 + 2 * 32 if kind == "plain" else stem + 16 * 192
    outer = 2 * width if kind == "plain" else 0  # norm_pre
    part = {"qkv": 3, "out": 1, "up": 4, "down": 1}
    forms = {
        "image": begins + depth * block(width) + 2 * width + width * 16,
        "text": 49408 * 16 + 16 * 16 + 2 * block(16) + 2 * 16 + 16 * 16,
        "scale": 1,
        "image.projection": width * 16,
        "image.*norm*": 4 * width * depth + 2 * width + outer,
        "image.*.norm[12].*": 4 * width * depth,
        "image.norm_post": 2 * width,
        "image.*bias": 11 * width * depth + width + outer // 2 + (sum(channels) if kind == "icon" else 0),
        "text.*norm*": 2 * 16 * (2 * 2 + 1),
        "text.*.norm[12].*": 4 * 16 * 2,
        "text.norm_post": 2 * 16,
        "text.*bias": 11 * 16 * 2 + 16,
        **{f"image.*.{p}.bias": n * width * depth for p, n in part.items()},
        **{f"text.*.{p}.bias": n * 16 * 2 for p, n in part.items()},
        **{f"image.-{k}.norm*": 4 * width for k in (1, 2)},
        **{f"text.-{k}.norm*": 4 * 16 for k in (1, 2)},
    }
    return forms[pattern]  # a recipe with another pattern writes its closed form here


FILMED = {
    "with-resnet": {
        "caption-film": ("conv1.1", "bn1", *(f"layer{i}.0.bn{k}" for i in (1, 2, 3, 4) for k in (1, 2))),
        "caption-film-blocks": tuple(f"layer{i}.0" for i in (1, 2, 3, 4)),
    },
    "with-efficientnet": {
        "caption-film": ("bn1", *(f"blocks.{i}.0.bn{k}" for i in range(5) for k in (1, 2) if (i, k) != (0, 2))),
        "caption-film-blocks": tuple(f"blocks.{i}.0" for i in range(5)),
    },
}
"""timm's modules on which the FiLM recipes stand in convolutional networks."""


def vision_form(kind: str, name: str, pattern: str) -> int:
    """How many numbers a caption recipe's pattern names on a pair, from timm's own module and its classes."""
    architecture, _, arguments = KINDS[PAIRS[kind]]
    model = timm.create_model(architecture, num_classes=0, **arguments)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.modules.batchnorm._BatchNorm)]
    every = sum(p.numel() for m in norms for p in m.parameters())
    width = model.num_features
    if pattern != "adapters":
        whole = sum(p.numel() for p in model.parameters()) + width * 16
        return {"image": whole, "image.projection": width * 16, "scale": 1, "image.*norm*": every}[pattern]
    if name == "caption-film-channels":
        return every
    if kind in BLOCKLESS:
        seen: dict[str, int] = {}
        for at in FILMED[kind][name]:
            model.get_submodule(at).register_forward_hook(lambda m, x, y, at=at: seen.update({at: y.shape[1]}))
        model.eval()(torch.zeros(1, 3, 32, 32))
        return sum(2 * channels for channels in seen.values())
    forms = {"caption-film": 2 * 4 * 32, "caption-film-blocks": 2 * 2 * 32, "caption-lora": 2 * 3 * 4 * 2 * 32}
    return forms.get(name, captions_as_tokens(2, 32) if name == "caption-tokens" else 2 * module(32))


def captions_as_tokens(depth: int, width: int) -> int:
    """A gate a block, four tokens that stand for captions, and a bottleneck of 24 from a text's row (16) to four."""
    return depth + 4 * width + 24 * (16 + 1) + 4 * width * (24 + 1)


def module(width: int) -> int:
    """A bottleneck of 24: two matrices, two biases."""
    return 2 * width * 24 + 24 + width


def hypercomplex(width: int) -> int:
    """Compacter's: rank 1 (in + out) a projection, two biases; the shared rule of 64 is counted once outside."""
    return 2 * (width + 24) + 24 + width


def added(kind: str, name: str) -> int:
    """How many numbers a recipe's adapters have on a tiny encoder, by the papers' formulas."""
    depth, width = IMAGE[kind]
    towers = ((depth, width), (2, 16))
    stem = (
        2 * sum((24, 48, 48, 96, 96, 192)) if kind == "icon" else 2 * 32 + 2 * 32
    )  # its convolutions; patch, norm_pre
    forms = {
        "lora": sum(d * 3 * 4 * 2 * w for d, w in towers),
        "clip-lora": sum(d * 3 * 2 * 2 * w for d, w in towers),
        "houlsby": sum(2 * d * module(w) for d, w in towers),
        "pfeiffer": sum(d * module(w) for d, w in towers),
        "parallel": sum(d * module(w) for d, w in towers),
        "compacter": 64 + sum(2 * d * hypercomplex(w) for d, w in towers),
        "compacter++": 64 + sum(d * hypercomplex(w) for d, w in towers),
        "film": depth * 4 * width,
        "film-blocks": depth * 2 * width,
        "ssf": depth * 22 * width + stem + 2 * width,
        "coop": 5 * 16,
        "coop-words": 4 * 16,
        "coop-classes": 3 * 5 * 16,
        "cocoop": 4 * 16,
        "vpt-shallow": 8 * width,
        "vpt-deep": 8 * width * depth,
        "maple": 2 * (2 * 16 + 16 * width + width),
        "caption-film": depth * 4 * width,
        "caption-film-blocks": depth * 2 * width,
        "caption-film-channels": depth * 4 * width + 2 * width + (2 * width if kind == "plain" else 0),
        "caption-bottleneck": depth * module(width),
        "caption-token-replay": depth * module(width),
        "caption-tokens": captions_as_tokens(depth, width),
        "caption-lora": depth * 3 * 4 * 2 * width,
        "prompt": 5 * 16,
        "adapter": 2 * module(16),
        "compacter-text": 64 + 2 * hypercomplex(16),
    }
    if name.startswith("kim-"):
        last = {"low": "compacter"}.get(name.split("-")[-1], name.split("-")[-1])
        return forms.get({"compacter": "compacter-text"}.get(last, last), 0)
    return forms.get(name, 0)


def head_numbers(kind: str, name: str) -> int:
    """How many of a head's numbers train, with 3 classes, 18 pictures and a shared width of 16."""
    pooled = 3 * (IMAGE[kind][1] + 1)
    forms = {"clip-adapter": 2 * 16 * 4, "tip-adapter-f": 18 * 16, "lp++": 3 * 16 + 3, "linear-pooled": pooled,
             "cocoop": 16 * 1 + 1 + 1 * 16 + 16, "kim-high": pooled}  # fmt: skip
    if name.endswith("probe"):
        return pooled
    return forms.get(name, 3 * 16 if name in ("cosine", "taskres", "clap", "2sfs", "cross-modal") else 3 * 17)


def expected(kind: str, name: str, trains: tuple[str, ...]) -> int:
    """What these patterns of a recipe name, all told."""
    if kind in PAIRS:
        return sum(vision_form(kind, name, p) for p in trains if "image" not in trains or p in ("image", "scale"))
    own = {"adapters": added, "head": head_numbers}
    if "image" in trains:  # the projection is a part of it
        trains = tuple(p for p in trains if p != "image.projection")
    return sum(own[p](kind, name) if p in own else closed_form(kind, p) for p in trains)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_counted(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    patterns = tuple(dict.fromkeys(pattern for stage in run.recipe.stages for pattern in stage.trains))
    assert run.tuned.trained == expected(kind, name, patterns)
    plans = [json.loads(path.read_text()) for path in sorted(run.folder.glob("plan-*.json"))]
    if run.recipe.soup:
        assert len(list(run.folder.glob("members/*/plan-0.json"))) == len(run.recipe.soup.rates)
        return
    assert len(plans) == sum(stage.fit is not None for stage in run.recipe.stages)
    for plan, stage in zip(plans, [s for s in run.recipe.stages if s.fit], strict=True):
        assert sum(plan["counts"]) == expected(kind, name, stage.trains)


NORMS = 2 * 32 * (2 * 2 + 2), 2 * 16 * (2 * 2 + 1)
"""Numbers in the norms of the plain encoder's image and text tower."""
WHOLE = 3 * 8 * 8 * 32 + 32 + 5 * 32 + 2 * 32 + 2 * block(32) + 2 * 32
"""And in its image tower up to the projection."""
REPLACED = {
    # the probe's numbers are gone with the probe; the norms, trained twice, count once
    "text after a joint probe": (then(RECIPES["kim-joint-probe"], RECIPES["kim-ln"]), sum(NORMS)),
    "cosine after a joint probe": (then(RECIPES["kim-joint-probe"], RECIPES["cosine"]), NORMS[0] + 3 * 16),
    "neighbours after a joint probe": (then(RECIPES["kim-joint-probe"], RECIPES["knn"]), NORMS[0]),
    "kept": (then(RECIPES["kim-joint-probe"], RECIPES["kim-probe"]), NORMS[0] + 3 * 33),
    # a head on pooled features never asks the projection
    "tower and probe": (joint(RECIPES["ft"], RECIPES["kim-probe"]), WHOLE + 3 * 33),
    "tower under a probe that is kept": (
        then(RECIPES["kim-probe"], joint(RECIPES["ft"], RECIPES["kim-probe"])), WHOLE + 3 * 33
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REPLACED)
def test_what_the_final_model_has_not_is_not_counted(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path, what: str
) -> None:
    recipe, numbers = shrunk(REPLACED[what][0]), REPLACED[what][1]
    job = make_job(fresh("plain"), data)
    names = trained_names(recipe, plans(recipe, job.encoder, 3, 18))
    before = job.encoder.state()
    tuned = fit_method("made", recipe, job, tmp_path)
    assert tuned.trained == sum(names.values()) == numbers
    assert set(tuned.values) == {n for n in names if not n.startswith("head.")}
    assert all(not torch.equal(value, before[n]) for n, value in tuned.values.items())
    assert "image.projection" not in tuned.values
    own = {} if tuned.head is None else dict(tuned.head.named_parameters())
    assert {n: p.numel() for n, p in own.items()} == {
        n.removeprefix("head."): count for n, count in names.items() if n.startswith("head.")
    }


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_repeated(trained: Get, train: Callable[[str, str, str], Any], kind: str, name: str) -> None:
    first, again = trained(kind, name), train(kind, name, "again")
    journals = [sorted(run.folder.rglob("journal.jsonl")) for run in (first, again)]
    assert bool(journals[0]) == any(stage.fit for stage in first.recipe.stages)
    assert [path.read_bytes() for path in journals[0]] == [path.read_bytes() for path in journals[1]]
    assert list(first.tuned.values) == list(again.tuned.values)
    assert all(torch.equal(value, again.tuned.values[n]) for n, value in first.tuned.values.items())
    heads = [run.tuned.head.state_dict() if run.tuned.head is not None else {} for run in (first, again)]
    assert all(torch.equal(value, heads[1][n]) for n, value in heads[0].items())


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_finished_method_is_read_and_not_trained_again(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    stamps = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    read = fit_method(name, run.recipe, run.job, run.folder)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == stamps
    assert (read.trained, read.notes, read.seconds) == (run.tuned.trained, run.tuned.notes, run.tuned.seconds)
    assert {n: v.tolist() for n, v in read.values.items() if v.numel() < 99} == {
        n: v.tolist() for n, v in run.tuned.values.items() if v.numel() < 99
    }
    assert (read.head is None) == (run.tuned.head is None)
    if read.head is not None:
        assert read.head.config == run.tuned.head.config
        tensors = run.tuned.head.state_dict()
        assert list(read.head.state_dict()) == list(tensors)
        assert all(torch.equal(value, tensors[n]) for n, value in read.head.state_dict().items())


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_wise_path_ends_at_the_pretrained_and_at_the_tuned_model(
    trained: Get, fresh: Callable[[str], Encoder], kind: str, name: str
) -> None:
    run = trained(kind, name)
    job, tuned = run.job, run.tuned
    path = points(tuned, job, [0.0, 0.5, 1.0])
    if run.recipe.merge is None:
        assert list(path) == [None]
        assert run.recipe.no_merge or not tuned.trained
        return
    zero, half, one = predict(job.encoder, list(path.values()), job.data.select)
    other = fresh(kind)  # both ends by hand, on another copy
    adapters = [adapter.for_classes(3) for adapter in run.recipe.adapters]
    with torch.no_grad():
        views_BCHW = pixels(other)
        other.put(
            {n: value for n, value in tuned.values.items() if n in other.new}
        )  # a projection has no pretrained end
        want_zero = text_head(other, job.prompts)(other.image(views_BCHW).shared_BD)
        add(other, adapters, job.seed)
        other.put(tuned.values)
        want_one = (tuned.head or text_head(other, job.prompts))(other.image(views_BCHW).shared_BD)
        said = {}
        for alpha in (0.0, 1.0):
            with placed(job.encoder, path[alpha]):
                said[alpha] = path[alpha].head(job.encoder.image(views_BCHW).shared_BD)
    assert torch.equal(said[0.0], want_zero)
    if run.recipe.merge.first < 1:
        assert not torch.equal(said[1.0], want_one)  # LiNeS stops short of it in the early layers
    elif any(seam == "weight" for seam in other.grafts.seams.values()):  # the law of folding: another order of sums
        torch.testing.assert_close(said[1.0], want_one, rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(said[1.0], want_one)
    assert np.abs(zero.logits_NC - one.logits_NC).max() > 1e-6
    assert np.abs(half.logits_NC - one.logits_NC).max() > 1e-7
    if run.recipe.merge.first == 1 and not adapters:
        for n in set(path[0.5].values) - other.new:  # the middle is the mean
            mean = (tuned.values[n].double() + job.encoder.state([n])[n].double()) / 2
            torch.testing.assert_close(path[0.5].values[n].double(), mean, rtol=1e-5, atol=1e-7)


def test_zero_shot_is_where_every_path_begins(trained: Get) -> None:
    run = trained("plain", "zero-shot")
    (alone,) = predict(run.job.encoder, list(points(run.tuned, run.job, []).values()), run.job.data.select)
    for name, recipe in RECIPES.items():
        if recipe.merge is not None:
            other = trained("plain", name)
            (zero,) = predict(other.job.encoder, [points(other.tuned, other.job, [0.0])[0.0]], other.job.data.select)
            np.testing.assert_array_equal(zero.logits_NC, alone.logits_NC)


def test_a_folder_of_another_experiment_is_refused(trained: Get, tmp_path: Path) -> None:
    from likewise.errors import UsageError

    run = trained("plain", "ln")
    with pytest.raises(UsageError, match="another experiment") as caught:
        fit_method("ln", run.recipe.edited("stages.0.fit.lr=1e-5"), run.job, run.folder)
    assert caught.value.code == "R01"
