"""What is recommended: scores and ranks by hand, costs on a clock of our own, and what ships held against itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from likewise.api import adapt
from likewise.cli import run as run_command
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import UsageError
from likewise.recipe import AdamW, Experiment
from likewise.recipes import RECIPES, get
from likewise.recommend import PRIORITIES, Priority, cost, recommend
from likewise.recommend.evidence import Evidence, Finding, offline, papers, pooled
from likewise.recommend.ranking import inert, rank
from likewise.recommend.regime import Amount, Likeness
from likewise.run.planning import steps

PLACES: tuple[tuple[Amount, Likeness], ...] = (
    ("few", "similar"), ("few", "dissimilar"), ("many", "similar"), ("many", "dissimilar"),
)  # fmt: skip


def evidence(shares: dict[str, Sequence[float]], **given: object) -> Evidence:
    """Shares in distribution by method and seed; half of it out of distribution, a quarter at alpha 0.5."""
    trials = [
        {"method": method, "seed": seed, "id": share, "ood": share / 2, "ood_half": share / 4}
        for method, each in shares.items()
        for seed, share in enumerate(each)
    ]
    rest = {"amount": "few", "likeness": "similar", "per_class": 4, "pictures": 40, "epochs": 30, "batch": 32,
            "n_id": 100, "n_ood": 300} | given  # fmt: skip
    return Evidence.parse({"data": "d", "trials": trials, **rest}, "here")


# -- scores and ranks --------------------------------------------------------------------------------------------


def test_a_score_is_the_mean_with_the_error_of_pictures_and_seeds() -> None:
    found = evidence({"ln": (0.6, 0.8)}).scores("in-distribution")["ln"]
    soft = (0.7 * 100 + 2) / 104
    assert found.value == pytest.approx(0.7)
    assert found.error == pytest.approx(np.sqrt(soft * (1 - soft) / 104 + np.var([0.6, 0.8], ddof=1) / 2))
    one = evidence({"ln": (0.6, 0.8)})
    assert one.scores("balanced")["ln"].value == pytest.approx(0.7 * 0.75)
    assert one.scores("robust")["ln"].value == pytest.approx(0.7 / 4)
    other = evidence({"ln": (0.2,), "ft": (0.9,)})
    both = pooled([one, other], "in-distribution")
    assert list(both) == ["ln"]  # what one of them lacks has no mean
    errors = [one.scores("in-distribution")["ln"].error, other.scores("in-distribution")["ln"].error]
    assert both["ln"].value == pytest.approx(0.45)
    assert both["ln"].error == pytest.approx(np.hypot(*errors) / 2)


FOUND = Finding(source="a paper", says="so", amount="few", likeness="similar", methods=("lora", "ln"))
SIZES = {"zero-shot": 0, "ln": 10, "lora": 20, "ft": 1000}


def test_ours_decides_then_the_paper_then_size() -> None:
    own = [evidence({"zero-shot": (0.5,), "ln": (0.78,), "lora": (0.8,), "ft": (0.81,)})]
    found = rank(("few", "similar"), "in-distribution", own, [FOUND], SIZES)
    assert found.close == ("lora", "ln", "ft")  # within one standard error of 0.81; the paper's order; then the rest
    assert found.behind == ("zero-shot",)
    assert rank(("few", "similar"), "robust", own, [FOUND], SIZES).close[0] == "ln"  # what trains fewest
    assert rank(("few", "similar"), "in-distribution", own, [], SIZES).close == ("ln", "lora", "ft")
    only_told = FOUND.model_copy(update={"decides": False})
    assert rank(("few", "similar"), "in-distribution", own, [only_told], SIZES).close == ("ln", "lora", "ft")
    assert rank(("few", "similar"), "in-distribution", own, [FOUND], SIZES, {"lora"}).close == ("ln", "ft", "lora")
    clear = [evidence({"zero-shot": (0.5,), "ln": (0.6,), "lora": (0.7,), "ft": (0.95,)})]
    assert rank(("few", "similar"), "in-distribution", clear, [FOUND], SIZES).order == ("ft", "lora", "ln", "zero-shot")


def test_an_unknown_regime_goes_by_papers_alone_and_methods_that_cannot_be_are_left_out() -> None:
    own = [evidence({"zero-shot": (0.5,), "ft": (0.9,)})]
    assert rank(("many", "similar"), "balanced", own, [FOUND], SIZES).order == tuple(SIZES)
    far = FOUND.model_copy(update={"amount": None, "likeness": None})
    assert rank(("many", "similar"), "balanced", own, [far], SIZES).order == ("lora", "ln", "zero-shot", "ft")
    assert rank(("few", "similar"), "balanced", own, [], {"zero-shot": 0}).order == ("zero-shot",)


def test_a_recipe_that_gained_nowhere_is_inert() -> None:
    near = evidence({"zero-shot": (0.9,), "ln": (0.9,), "lora": (0.9,)})
    far = evidence({"zero-shot": (0.1,), "ln": (0.12,), "lora": (0.5,)}, likeness="dissimilar")
    assert inert([near, far], "few") == {"ln"}
    assert inert([near], "few") == {"ln", "lora"}
    assert inert([near], "many") == set()


# -- what ships --------------------------------------------------------------------------------------------------


def test_what_ships_names_recipes_and_covers_the_plane() -> None:
    methods = {trial.method for one in offline().evidence for trial in one.trials}
    assert (
        {"zero-shot", *(m for finding in papers() for m in finding.methods)} - {"kim-high"} <= methods <= set(RECIPES)
    )
    assert {(one.amount, one.likeness) for one in offline().evidence} == set(PLACES)
    for place in PLACES:
        assert any(f.decides and (f.amount, f.likeness) == place for f in papers())


def good(
    place: tuple[Amount, Likeness], priority: Priority, seen: Sequence[Evidence], told: Sequence[Evidence]
) -> bool:
    """Whether what is chosen by `seen` is within one standard error of the best of `told`."""
    choice = rank(place, priority, seen, papers(), KEPT, inert(seen, place[0])).order[0]
    truth = pooled([one for one in told if (one.amount, one.likeness) == place], priority)
    best = max(truth.values())
    return truth[choice].value >= best.value - best.error


KEPT = {"zero-shot": 0, "ln": 8_448, "linear-pooled": 25_000, "kim-low": 41_000, "lora": 120_000, "ft": 14_341_249,
        "lp-ft": 14_366_000, "flyp": 14_341_249}  # fmt: skip
"""About how many numbers each trains of icon-clip."""


@pytest.mark.parametrize("priority", PRIORITIES)
def test_the_advice_is_good_in_three_of_the_four_offline_regimes(priority: Priority) -> None:
    assert sum(good(place, priority, offline().evidence, offline().evidence) for place in PLACES) >= 3


def test_advice_from_one_seed_is_good_on_the_other() -> None:
    """Trials that the advice has not seen, on the same data; other data than it knows: docs/recommend.md."""

    def only(seed: int) -> list[Evidence]:
        return [
            one.model_copy(update={"trials": tuple(trial for trial in one.trials if trial.seed == seed)})
            for one in offline().evidence
        ]

    asked = list(itertools.product(PLACES, PRIORITIES, (0, 1)))
    found = [good(place, priority, only(1 - held), only(held)) for place, priority, held in asked]
    assert sum(found) >= 20, f"{sum(found)} of {len(found)}"
    assert len({one.trials[0].seed for one in only(0)}) == 1


# -- costs -------------------------------------------------------------------------------------------------------


def test_a_cost_is_steps_times_what_a_step_took(
    fresh: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0.0, 2.0)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))  # each look at the clock is two seconds later
    encoder, looked = fresh("plain"), len(data.access_log)
    before = {name: p.clone() for name, p in encoder.parameters_by_name().items()}
    recipe = get("lp-ft").edited("stages.1.fit.batch=4", "stages.1.fit.epochs=7")
    found = cost.measure("lp-ft", recipe, encoder, data, cost.Machine())
    assert found.steps == steps(recipe, len(data.train), len(data.classes))
    assert found.step == (2.0,)
    path = recipe.stages[0].fit
    solving = 2.0 * len(path.path) * len(data.train) / 16  # four batches of four pictures are solved on
    assert found.training == pytest.approx(2.0 * found.steps + solving)
    asked = 5 * len(data.select) + sum(data.sizes.values())
    assert found.judging == pytest.approx(asked * 2.0 / 4)
    assert len(data.access_log) == looked
    assert all(p.equal(before[name]) for name, p in encoder.parameters_by_name().items())


# -- the whole ---------------------------------------------------------------------------------------------------


def test_a_recommendation_has_its_reasons_and_can_be_trained(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    looked = len(data.access_log)
    found = recommend(fresh("plain"), data, priority="robust")
    assert len(data.access_log) == looked
    assert found.method == found.ranking.order[0]
    own = found.ranking.evidence
    assert own
    for stage in found.recipe.stages:
        if isinstance(stage.fit, AdamW):
            assert stage.fit.steps(len(data.train), len(data.classes)) >= max(one.steps for one in own)
    assert found.recipe == get(found.method).edited(*found.edits)
    text = " ".join(found.reasons)
    assert f"{found.place.amount}, {found.place.likeness}" in text
    assert "likewise bench offline" in text
    assert "arXiv:2202.10054" in text
    assert "compare a few" in text  # the evidence is another encoder's
    assert json.loads(json.dumps(found.tree()))["method"] == found.method


def test_adapt_takes_the_recommended_recipe_and_says_why(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    out, settings = tmp_path / "run", {"priority": "in-distribution", "alphas": (0.0, 1.0)}
    run = adapt(fresh("plain"), data, "auto", out, **settings)
    told = json.loads((out / "recommendation.json").read_text())
    assert told["priority"] == "in-distribution"
    assert list(run.results["methods"]) == list(dict.fromkeys(["zero-shot", told["method"]]))
    assert Experiment.read(out / "config.yaml").recipes[told["method"]].tree() == told["recipe"]
    assert "Why this recipe was recommended" in (out / "report.html").read_text()
    (out / "results.json").unlink()
    (out / "STATUS").write_text("interrupted\n")
    again = adapt(fresh("plain"), data, "auto", out, **settings, resume=True)  # what it had, not another measurement
    assert list(again.results["methods"]) == list(run.results["methods"])
    assert json.loads((out / "recommendation.json").read_text()) == told


def test_the_command_says_what_it_costs_and_how_to_do_it(
    folder_of: Callable[[str], Path], stones: Path, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = next(path for path in stones.rglob("train") if path.is_dir())
    asked = [str(photos), "--encoder", f"local-dir:{folder_of('plain')}"]
    assert run_command(["recommend", *asked]) == 0
    said = capsys.readouterr().out
    for word in (
        "recipe ",
        "cost ",
        "measured on three batches",
        "likewise train",
        "--methods",
        str(folder_of("plain")),
    ):
        assert word in said
    assert run_command(["recommend", *asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["seconds"] > 0
    assert run_command(["recommend", *asked, "--priority", "robots"]) == 2
    assert "robust" in capsys.readouterr().err
    assert run_command(["adapt", *asked, "--recipe", "auto", "--methods", "ln"]) == 2
    assert run_command(["adapt", *asked, "--recipe", "auto", "--shots", "1,2"]) == 2
    assert run_command(["adapt", *asked, "--recipe", "auto", "--dry-run", "-o", str(tmp_path / "run")]) == 0
    assert "recommended: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_would_end_late_gives_way_and_is_named(
    fresh: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: dict[str, float] = {}

    def slower(name: str, *_: object) -> cost.Cost:
        took[name] = 100.0 / (1 + len(took))
        return cost.Cost(0.0, (), 0, took[name], 0.0)

    monkeypatch.setattr("likewise.recommend.recommendation.measure", slower)
    found = recommend(fresh("plain"), data, time_limit=40)
    assert list(took) == list(found.ranking.order[:3])
    assert found.method == found.ranking.order[2]
    assert list(found.late) == list(found.ranking.order[:2])
    assert "100 s" in " ".join(found.reasons)
    took.clear()
    with pytest.raises(UsageError, match=r"no method ends within 1 s.*quickest"):
        recommend(fresh("plain"), data, time_limit=1)


def test_an_encoder_without_texts_is_told_what_else(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    with pytest.raises(UsageError, match="likewise caption"):
        recommend(fresh("with-vit").vision, data)  # type: ignore[attr-defined]
