"""What is recommended: scores and ranks by hand, costs on a clock of our own, and what ships held against itself."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.api import adapt
from likewise.cli import run as run_command
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import UsageError
from likewise.recipe import AdamW, Experiment
from likewise.recipes import RECIPES, get
from likewise.recommend import PRIORITIES, cost, recommend, worth
from likewise.recommend.evidence import Evidence, Finding, Table, nearest, offline, papers, pooled
from likewise.recommend.ranking import Question, Ranking, inert, rank
from likewise.recommend.recommendation import _ours, _tie
from likewise.run.planning import steps
from likewise.suites import FOLDER
from likewise.suites import load as suite_of
from scripts import ROOT, script


@pytest.fixture(scope="module")
def example() -> Any:
    return script("examples/held_out_advice.py")


def evidence(shares: dict[str, Sequence[float]], **given: object) -> Evidence:
    """Shares in distribution by method and seed; three quarters of it balanced, a quarter of it at alpha 0.5."""
    trials = [
        {"method": method, "seed": seed, "alpha": 1.0,
         "scores": {"in-distribution": (share, 0.04), "balanced": (0.75 * share, 0.03), "robust": (share / 4, 0.02)}}
        for method, each in shares.items()
        for seed, share in enumerate(each)
    ]  # fmt: skip
    rest = {"shots": 4, "likeness": "similar", "per_class": 4, "pictures": 40, "epochs": 30, "batch": 32} | given
    return Evidence.parse(
        {"data": "d", "trials": trials, "sizes": {name: SIZES[name] for name in shares}, **rest}, "here"
    )


SIZES = {"zero-shot": 0, "ln": 10, "lora": 20, "ft": 1000}
FEW = Question(4, "similar", "in-distribution")

# -- scores and ranks --------------------------------------------------------------------------------------------


def test_a_score_is_the_mean_with_the_error_of_pictures_and_seeds() -> None:
    one = evidence({"ln": (0.6, 0.8)})
    found = one.scores("in-distribution")["ln"]
    assert found.value == pytest.approx(0.7)
    assert found.error == pytest.approx(np.sqrt(0.04**2 + np.var([0.6, 0.8], ddof=1) / 2))
    assert one.scores("balanced")["ln"].value == pytest.approx(0.7 * 0.75)
    assert one.scores("robust")["ln"].value == pytest.approx(0.7 / 4)
    other = evidence({"ln": (0.2,), "ft": (0.9,)})
    assert other.scores("balanced")["ln"].error == 0.03
    both = pooled([one, other], "in-distribution")
    assert list(both) == ["ln"]  # what one of them lacks has no mean
    errors = [one.scores("in-distribution")["ln"].error, other.scores("in-distribution")["ln"].error]
    assert both["ln"].value == pytest.approx(0.45)
    assert both["ln"].error == pytest.approx(np.hypot(*errors) / 2)


def test_errors_are_of_each_domains_pictures_and_those_of_the_same_pictures_add_up() -> None:
    shares = {"id": (0.9, 96), "a": (0.5, 46), "b": (0.2, 196)}
    points: dict[float, float] = {1.0: 1.0, 0.5: 0.9}
    rows = [
        {
            "method": "ft",
            "alpha": at,
            "split": "report",
            "domain": domain,
            "metric": metric,
            "value": factor * value,
            "n": n,
        }
        for metric in ("ece", "accuracy")
        for at, factor in points.items()
        for domain, (value, n) in {**shares, "ood-mean": (0.35, 242)}.items()
    ]
    results = {"methods": {"ft": {"alpha": 1.0, "alphas": [0.0, 0.5, 1.0]}}, "rows": rows}
    alone, same = (script("tools/build_evidence.py").trial("ft", 3, results, corrupted) for corrupted in (False, True))

    def error(p: float, n: int) -> float:  # four more pictures, half of them right
        soft = (p * n + 2) / (n + 4)
        return float(np.sqrt(soft * (1 - soft) / (n + 4)))

    inside, a, b = (error(p, n) for p, n in shares.values())
    assert (alone.method, alone.seed, alone.alpha) == ("ft", 3, 1.0)
    assert alone.scores["in-distribution"] == pytest.approx((0.9, inside), abs=1e-6)
    assert alone.scores["balanced"] == pytest.approx(
        ((0.9 + 0.35) / 2, np.hypot(inside, np.hypot(a, b) / 2) / 2), abs=1e-6
    )
    assert same.scores["balanced"] == pytest.approx(((0.9 + 0.35) / 2, (inside + (a + b) / 2) / 2), abs=1e-6)
    half = [error(0.9 * p, n) for p, n in list(shares.values())[1:]]
    assert alone.scores["robust"] == pytest.approx((0.9 * 0.35, np.hypot(*half) / 2), abs=1e-6)
    assert same.scores["robust"] == pytest.approx((0.9 * 0.35, sum(half) / 2), abs=1e-6)


FOUND = Finding(source="a paper", says="so", amount="few", likeness="similar", methods=("lora", "ln"))


def test_ours_decides_then_the_paper_then_size() -> None:
    own = [evidence({"zero-shot": (0.5,), "ln": (0.78,), "lora": (0.8,), "ft": (0.81,)})]
    found = rank(FEW, own, [FOUND], SIZES)
    assert found.close == ("lora", "ln", "ft")  # within one standard error of 0.81; the paper's order; then the rest
    assert found.behind == ("zero-shot",)
    assert rank(FEW._replace(priority="robust"), own, [FOUND], SIZES).close[0] == "ln"  # what trains fewest
    assert rank(FEW, own, [], SIZES).close == ("ln", "lora", "ft")
    only_told = FOUND.model_copy(update={"decides": False})
    assert rank(FEW, own, [only_told], SIZES).close == ("ln", "lora", "ft")
    assert rank(FEW, own, [FOUND], SIZES, {"lora"}).close == ("ln", "ft", "lora")
    clear = [evidence({"zero-shot": (0.5,), "ln": (0.6,), "lora": (0.7,), "ft": (0.95,)})]
    assert rank(FEW, clear, [FOUND], SIZES).order == ("ft", "lora", "ln", "zero-shot")


def test_evidence_of_the_nearest_number_of_pictures_is_asked_whatever_it_is_called() -> None:
    four = evidence({"ln": (0.9,)})
    ten, forty = (evidence({"ln": (0.9,)}, data=str(n), shots=0, per_class=n) for n in (10, 40))  # about 20 together
    far = evidence({"ft": (0.9,)}, likeness="dissimilar", per_class=9, shots=1)
    known = [four, ten, forty, far]
    assert nearest(known[:3], 8.9) == (four,)  # 8.94 is as many times 4 as it is part of 20
    assert nearest(known[:3], 9) == (ten, forty)
    assert nearest(known[:3], 1000) == (ten, forty)
    assert nearest(known, 9) == (far,)
    assert nearest([], 9) == ()
    assert nearest(known[:3], 0) == (four,)
    assert rank(FEW._replace(per_class=9), known, [], SIZES).evidence == (ten, forty)
    many = FOUND.model_copy(update={"amount": "many"})
    asked = [rank(FEW._replace(per_class=n), known, [FOUND, many], SIZES) for n in (63, 64)]
    assert [one.findings for one in asked] == [(FOUND,), (many,)]
    assert [one.evidence for one in asked] == [(ten, forty)] * 2


def test_data_like_none_of_ours_goes_by_papers_alone_and_methods_that_cannot_be_are_left_out() -> None:
    own = [evidence({"zero-shot": (0.5,), "ft": (0.9,)})]
    unlike = Question(4, "dissimilar", "balanced")
    assert rank(unlike, own, [FOUND], SIZES).order == tuple(SIZES)
    far = FOUND.model_copy(update={"amount": None, "likeness": None})
    assert rank(unlike, own, [far], SIZES).order == ("lora", "ln", "zero-shot", "ft")
    assert rank(FEW, own, [], {"zero-shot": 0}).order == ("zero-shot",)


def test_a_recipe_that_gained_nowhere_is_inert() -> None:
    near = evidence({"zero-shot": (0.9,), "ln": (0.9,), "lora": (0.9,)})
    far = evidence({"zero-shot": (0.1,), "ln": (0.12,), "lora": (0.5,)}, likeness="dissimilar", data="e")
    more = evidence({"zero-shot": (0.1,), "ln": (0.5,), "lora": (0.1,)}, likeness="dissimilar", data="e", per_class=90)
    assert inert([near, far, more], 4) == {"ln"}
    assert inert([near, more], 4) == set()  # where none gained there was nothing to gain
    assert inert([near, far, more], 100) == {"lora"}
    assert inert([near, far, more], 1000) == set()


def test_inert_is_by_evidence_of_about_so_many_pictures_whatever_shots_it_was_asked_for() -> None:
    few, all_of_few = (evidence({"zero-shot": (0.5,), "ln": (0.5,), "lora": (0.8,)}, shots=shots, per_class=number)
                       for shots, number in ((4, 4), (0, 12.5)))  # fmt: skip
    other, all_of_other = (one.model_copy(update={"data": "e", "per_class": number, "trials": trials})
                           for one, number, trials in ((few, 4, few.trials), (all_of_few, 100, evidence(
                               {"zero-shot": (0.5,), "ln": (0.9,), "lora": (0.9,)}).trials)))  # fmt: skip
    known = [few, all_of_few, other, all_of_other]
    assert inert(known, 12.5) == {"ln"}  # 100 pictures a class, of all like 12.5, are 8 times as many
    assert inert(known, 19) == {"ln"}
    assert inert(known, 21) == set()
    assert inert(known, 501) == set()


# -- what ships --------------------------------------------------------------------------------------------------


def test_what_ships_names_recipes_and_covers_the_plane() -> None:
    methods = {method for one in offline().evidence for method in one.sizes}
    assert (
        {"zero-shot", *(m for finding in papers() for m in finding.methods)} - {"kim-high"} <= methods <= set(RECIPES)
    )
    for one in offline().evidence:
        assert {trial.method for trial in one.trials} == set(one.sizes)
        assert all(set(trial.scores) == set(PRIORITIES) for trial in one.trials)
    places = {(f.amount, f.likeness) for f in papers() if f.decides}
    assert places >= set(itertools.product(("few", "many"), {one.likeness for one in offline().evidence}))


def test_the_numbers_of_kim_et_al_are_those_that_their_suites_expect() -> None:
    suites = {path.stem: suite_of(path.stem)[1] for path in FOLDER.glob("kim-*.yaml")}
    values = [expected.value for suite in suites.values() for expected in suite.expect]
    norms = [e.value for e in suites["kim-figure-3"].expect if e.method == "kim-ln" and 1 in e.shots]
    values.append(sum(norms) / 2)  # with few pictures, on average: Table 1 takes it from Figure 3, near and far
    assert len(norms) == 2
    known = {float(Decimal(f"{value:.4f}").quantize(Decimal("0.1"), ROUND_HALF_UP)) for value in values}
    told = [finding for finding in papers() if finding.source.startswith("Kim")]
    assert len(told) == 4
    for finding in told:
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", finding.says)]
        assert len(numbers) >= 4
        assert set(numbers) <= known, set(numbers) - known


def test_by_the_other_seeds_trials_the_advice_is_good_in_three_of_the_four_offline_regimes(example: Any) -> None:
    """Chosen by one seed, judged by the other: trials that the advice has not seen, on the same data.

    In one of the six it is good in two: in distribution, near, with many pictures, it is 1.1 points behind where 0.9
    are allowed (docs/held-out-advice.md has the counts).
    """
    good = {
        (priority, seed): example.close(each)
        for priority in PRIORITIES
        for seed, each in example.crossed(offline().evidence, priority).items()
    }
    assert len(good) == 6
    assert sum(count >= 3 for count in good.values()) >= 5
    assert min(good.values()) >= 2


def test_advice_from_evidence_that_tells_nothing_fails_that(example: Any) -> None:
    def drawn(seed: int) -> list[Evidence]:
        rng, tree = np.random.default_rng(seed), offline().tree()
        for one in tree["evidence"]:
            for trial in one["trials"]:
                trial["scores"] = {priority: (rng.random(), error) for priority, (_, error) in trial["scores"].items()}
        return list(Table.parse(tree).evidence)

    good = [
        example.close(each) >= 3 for seed in range(10) for each in example.crossed(drawn(seed), "balanced").values()
    ]
    assert sum(good) < len(good) / 2


def test_held_out_advice_has_not_seen_the_data_and_its_loss_is_by_hand() -> None:
    known = [
        evidence({"zero-shot": (0.5,), "ln": (share,), "ft": (0.9,)}, data=data)
        for data, share in (("a", 0.98), ("b", 0.7))
    ]
    seen: list[list[str]] = []

    def rule(asked: Question, rest: Sequence[Evidence], sizes: Any) -> str:
        seen.append([one.data for one in rest])
        return worth.advised(asked, rest, sizes)

    judged = worth.held_out(known, "in-distribution", rule)
    assert seen == [["b"], ["a"]]
    assert [(one.method, one.best) for one in judged] == [("ft", "ln"), ("ln", "ft")]
    assert [one.behind() for one in judged] == pytest.approx([8, 20])
    assert [one.close() for one in judged] == [False, False]
    assert judged[1].close("ft")
    assert worth.lost(judged) == pytest.approx(14)
    assert worth.constants(judged) == pytest.approx({"ft": 4, "ln": 10, "zero-shot": 44})
    assert next(iter(worth.constants(judged))) == "ft"


def test_the_pages_and_the_caution_have_the_numbers_of_what_ships(example: Any) -> None:
    assert (ROOT / "docs/held-out-advice.md").read_text() == example.page(), "examples/held_out_advice.py --write it"
    said = " ".join((ROOT / "docs/recommend.md").read_text().split()).lower()
    assert example.summary().lower() in said
    for priority in PRIORITIES:
        judged = worth.held_out(offline().evidence, priority)
        best = min(judged[0].scores, key=lambda name: sum(one.behind(name) for one in judged))
        told = worth.caution(priority)
        assert f"{sum(one.behind() for one in judged) / len(judged):.1f} points" in told
        assert f"always {best}, the best single recipe in hindsight, {worth.lost(judged, best):.1f}." in told


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


def test_a_clock_goes_by_the_names_of_bars_and_by_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 1.0)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    clock = cost._Clock("lp-ft")
    for done, total in ((1, 2), (2, 2), (3, 4), (4, 4)):  # a stage that was taken up again begins at 3
        clock.bar("lp-ft", done, total)
        clock.bar("reading select", 1, 3)
    assert clock.stages == [[1.0, 1.0], [1.0, 1.0]]


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
    assert all(one.label in text for one in own)
    assert "compare a few" in text  # the evidence is another encoder's
    assert found.reasons[-1] == worth.caution("robust")
    assert json.loads(json.dumps(found.tree()))["method"] == found.method


def test_a_reason_says_where_ours_cannot_tell(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    found = recommend(fresh("plain"), data)
    own = evidence({"zero-shot": (0.8,), "ln": (0.8,), "lora": (0.8,), "ft": (0.7,)})
    still = [
        t if t.method == "ft" else t.model_copy(update={"alpha": None if t.method == "zero-shot" else 0.0})
        for t in own.trials
    ]
    ranking = rank(FEW, [own.model_copy(update={"trials": tuple(still)})], [], SIZES)
    asked = found._replace(method="ln", ranking=ranking, priority="balanced")
    assert "ours cannot tell ln, lora apart" in _ours(asked, "x")
    assert "d, 4 pictures a class" in _ours(asked, "x")
    assert "the best" in _ours(asked._replace(priority="robust"), "x")  # which is of alpha 0.5
    moved = rank(FEW, [own], [], SIZES)
    assert "the best" in _ours(asked._replace(ranking=moved), "x")
    nothing = Ranking(("ln",), (), {}, (), ())
    assert "papers alone decide" in _ours(asked._replace(ranking=nothing), "x")


def test_a_reason_says_where_nothing_of_ours_is_near_in_number(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    found = recommend(fresh("plain"), data)
    ranking = rank(FEW, [evidence({"zero-shot": (0.8,), "ln": (0.9,)})], [], SIZES)
    for number, far in ((0, False), (1, False), (4, False), (20, False), (21, True), (1000, True)):
        place = found.place._replace(per_class=number)
        said = _ours(found._replace(method="ln", ranking=ranking, place=place), "x")
        assert (f"is near in number to your {number} pictures a class" in said) == far


def test_the_reason_for_the_first_of_equals_is_true_of_it(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    own = [evidence({"zero-shot": (0.8,), "ln": (0.8,), "lora": (0.8,)})]
    told = FOUND.model_copy(update={"methods": ("lora", "ln", "zero-shot")})
    found = recommend(fresh("plain"), data)._replace(priority="in-distribution", late={})
    plain, slow = rank(FEW, own, [told], SIZES), rank(FEW, own, [told], SIZES, {"lora"})
    assert _tie(found._replace(method="lora", ranking=plain)).endswith("lora is the first of them that a paper ranks.")
    aside = _tie(found._replace(method="ln", ranking=slow))
    assert "ln is the first of them that a paper ranks, lora aside: " in aside
    assert "no data of ours has a gain of theirs" in aside
    late = {"ln": 9.0}
    assert "zero-shot is the first of them that ends in time, lora aside" in _tie(
        found._replace(method="zero-shot", ranking=slow, late=late)
    )
    last = _tie(found._replace(method="lora", ranking=slow, late=late | {"zero-shot": 9.0}))
    assert last.endswith("lora is the first of them that ends in time.")
    robust = found._replace(priority="robust", ranking=rank(FEW, own, [], SIZES))
    assert _tie(robust._replace(method="zero-shot", trains=0)).endswith("zero-shot is the one that trains nothing.")
    assert all("learn" not in text for text in (aside, last))


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
