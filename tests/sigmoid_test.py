"""Methods on captions under the sigmoid loss: the shift trains, and both numbers begin where the paper says."""

# B pictures, C classes, D shared width.

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.cli import run as cli
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError
from likewise.heads import unit
from likewise.losses import Contrastive, Masked, Sigmoid
from likewise.predict import features, text_rows
from likewise.recipe import Recipe
from likewise.recipes import captions, for_captions
from likewise.recipes.captions import with_loss, with_text
from likewise.run.method import fit_method
from likewise.run.planning import planned
from likewise.run.tuned import Tuned
from tiny import make_job, shrunk


@pytest.mark.parametrize("name", captions.RECIPES)
def test_the_shift_trains_wherever_the_scale_does(name: str) -> None:
    plain = captions.RECIPES[name]
    recipe = with_loss(plain, "sigmoid")
    assert isinstance(recipe.stages[0].loss, Sigmoid)
    for before, after in zip(plain.stages, recipe.stages, strict=True):
        assert ("shift" in after.trains) == ("scale" in after.trains)
        assert set(after.trains) - {"shift"} == set(before.trains)
        assert isinstance(after.loss, Masked) == isinstance(before.loss, Masked)
        if isinstance(before.loss, Contrastive):
            assert isinstance(after.loss, Sigmoid)
            assert (after.loss.collisions, after.loss.bank) == (before.loss.collisions, before.loss.bank)
    assert Recipe.parse(recipe.tree(), "a copy") == recipe
    assert with_loss(recipe, "sigmoid") == recipe
    assert with_loss(recipe, "contrastive") == plain
    assert recipe.title == f"{plain.title}, sigmoid loss"


def tuned(job: Any, folder: Path, *edits: str) -> Tuned:
    recipe = shrunk(with_loss(for_captions("ln")[1], "sigmoid"))
    short = [f"stages.{i}.{edit}" for i in (0, 1) for edit in ("fit.batch=18", "fit.warmup=0", "loss.bank=0")]
    return fit_method("x", recipe.edited(*short, *edits), job, folder)


def test_the_first_step_is_the_papers_at_its_start(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    """Algorithm 1 by hand: z log-sigmoid of 10 cos - 10, summed over the batch's questions, over B."""
    encoder = fresh("with-vit")
    job = make_job(encoder, data)
    job.prompts = [[f"{name}."] for name in data.classes.names]
    image_BD = unit(features(encoder, data.train, "shared")).double().numpy()
    text_CD = text_rows(encoder, [own[0] for own in job.prompts]).double().numpy()
    label_B = data.train.labels_N
    found = tuned(job, tmp_path / "x")
    asked_BB = 10 * image_BD @ text_CD[label_B].T - 10
    answer_BB = np.where(np.eye(len(label_B)) == 1, 1.0, -1.0)
    cost_BB = np.log1p(np.exp(-answer_BB * asked_BB))
    # other pictures of one class have the same text: neither right nor wrong
    counted_BB = (np.eye(len(label_B)) == 1) | (label_B[:, None] != label_B[None, :])
    first = json.loads((tmp_path / "x" / "journal.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx((cost_BB * counted_BB).sum() / len(label_B), rel=1e-5)
    assert {"scale", "shift"} <= set(found.values)
    assert float(found.values["shift"]) != -10.0
    assert float(found.values["scale"]) == pytest.approx(math.log(10), abs=0.1)
    assert float(encoder.shift) == 0.0  # the encoder is as it was


def test_a_later_stage_goes_on_from_what_the_first_left(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    job = make_job(fresh("with-vit"), data)
    still = tuned(job, tmp_path / "still", "stages.0.fit.lr=0.5", "stages.1.fit.lr=1e-12")
    assert abs(float(still.values["shift"]) + 10) > 0.3  # where the first stage took it, not where it began


def test_under_the_contrastive_loss_the_shift_is_held(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    found = fit_method("x", shrunk(for_captions("ln")[1]), make_job(fresh("with-vit"), data), tmp_path / "x")
    assert "shift" not in found.values


def test_the_text_tower_may_train_under_it(fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path) -> None:
    recipe = shrunk(with_text(with_loss(for_captions("ln")[1], "sigmoid")))
    found = fit_method("x", recipe, make_job(fresh("with-vit"), data), tmp_path / "x")
    assert {"shift", "text.0.norm1.weight"} <= set(found.values)


def test_an_encoder_without_a_shift_says_so(fresh: Callable[[str], Encoder]) -> None:
    recipes = {"caption-ln": with_loss(for_captions("ln")[1], "sigmoid")}
    with pytest.raises(ConfigError, match=r"caption-ln cannot be used with .* made with softmax.*contrastive loss"):
        planned(recipes, fresh("plain"), 3, 18)
    assert planned(recipes, fresh("with-vit"), 3, 18)["caption-ln"][0].trains[-2:] == ("scale", "shift")


def test_the_flag(stones: Path, fresh: Callable[[str], Encoder], capsys: Any) -> None:
    fresh("with-vit")
    places = (stones / "vision" / "vit", stones / "encoders" / "plain")
    tower, text = (f"local-dir:{place}" for place in places)
    photos = str(stones / "data" / "train")
    asked = ["caption", photos, "--encoder", tower, "--text", text, "--eval", photos, "--method", "ln", "--dry-run"]
    assert cli([*asked, "--loss", "sigmoid"]) == 0
    assert "captions, norms, sigmoid loss" in capsys.readouterr().out
    assert cli([*asked, "--loss", "sigmod"]) == 2
    assert "no loss «sigmod» for captions. Did you mean sigmoid? Say contrastive or sigmoid" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no loss"):
        with_loss(for_captions("ln")[1], "")
