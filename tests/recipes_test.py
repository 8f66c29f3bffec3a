"""Combinations of recipes, and the rates at which named ones come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest

from likewise.adapters import Film, Lora, Maple, Prompt, VisualPrompt
from likewise.api import ladder
from likewise.errors import ConfigError, UsageError
from likewise.heads import Conditional, Cosine, Keep, Linear, Text
from likewise.losses import CrossEntropy
from likewise.names import make_plan, select
from likewise.recipe import (
    AdamW,
    Descent,
    Lbfgs,
    Majorize,
    Recipe,
    Sgd,
    Stage,
    at_rate,
    joint,
    lines,
    no_path,
    no_soup,
    one,
    rescaled,
    soup,
    then,
    wise,
)  # fmt: skip
from likewise.recipes import AS_PUBLISHED, FAMILIES, LADDERS, RECIPES, get

R = RECIPES
ONE_STAGE = {name: recipe for name, recipe in RECIPES.items() if len(recipe.stages) == 1}
fit = AdamW(lr=1.0)


def rates(recipe: Recipe) -> list[float]:
    return [stage.fit.lr for stage in recipe.stages if isinstance(stage.fit, Descent)]


# -- rates and steps --------------------------------------------------------------------------------------------


def test_named_recipes_come_at_the_encoders_rates_and_own_values_stay() -> None:
    assert rates(get("flyp", 30.0)) == [pytest.approx(3e-4)]
    assert rates(get("lp-ft", 30.0)) == [pytest.approx(3e-4)]
    assert rates(get("flyp-published", 30.0)) == [1e-5]
    assert get("ln") == R["ln"]
    mine = R["flyp"].edited("stages.0.fit.lr=0.1")
    assert rates(ladder(mine, "standard", 30.0)["FLYP"]) == [0.1]
    assert rates(ladder({"a": R["flyp"], "b": mine}, "standard", 30.0)["flyp"]) == [pytest.approx(3e-4)]
    assert list(ladder("ln, flyp,ln", "standard", 1.0)) == ["ln", "flyp"]
    assert list(ladder(None, "quick", 1.0)) == list(LADDERS["quick"])
    with pytest.raises(UsageError):
        ladder(" , ", "standard", 1.0)


def test_families_and_ladders_name_recipes_that_are_there() -> None:
    named = [name for family in FAMILIES.values() for name in family]
    assert named == list(RECIPES)  # none twice: a later one would hide an earlier
    assert all(set(names) <= set(RECIPES) for names in LADDERS.values())
    assert set(AS_PUBLISHED) <= set(RECIPES)
    with pytest.raises(UsageError, match="Did you mean lp-ft"):
        get("lpft")


@pytest.mark.parametrize("name", RECIPES)
def test_only_stages_that_train_pretrained_numbers_are_rescaled(name: str) -> None:
    for stage, scaled in zip(R[name].stages, rescaled(R[name], 7.0).stages, strict=True):
        new = bool(stage.adapters) or stage.trains == ("head",)
        if not isinstance(stage.fit, Descent) or new:
            assert scaled == stage
        else:
            assert isinstance(scaled.fit, Descent)
            assert scaled.fit.lr == pytest.approx(7 * stage.fit.lr)
            assert scaled.model_copy(update={"fit": stage.fit}) == stage  # and nothing else
    assert rescaled(R[name], 1.0) == R[name]


def test_what_a_rescaling_does_to_named_ones() -> None:
    assert rates(get("prolip", 10.0)) == [pytest.approx(1e-3)]  # a pretrained matrix, though on features
    assert rates(get("2sfs", 10.0)) == [pytest.approx(2e-3), 2e-4]  # norms, then a head alone
    assert rates(get("lora", 10.0)) == rates(R["lora"])
    assert rates(get("coop", 10.0)) == rates(R["coop"])
    assert rates(get("kim-ln", 10.0)) == [5e-4]


@pytest.mark.parametrize(
    ("pictures", "classes", "want"),
    [(18, 3, 3000), (16, 1, 8000), (17, 1, 8000), (1600, 2, 8000), (1, 3, 500), (5, 2, 1000), (3, 0, 1500)],
)
def test_steps_per_shot_end_at_sixteen_shots(pictures: int, classes: int, want: int) -> None:
    published = R["clip-lora"].stages[0].fit
    assert isinstance(published, AdamW)
    assert published.per_shot == 500
    assert published.steps(pictures, classes) == want


@pytest.mark.parametrize("kind", [AdamW, Sgd])
def test_steps_are_epochs_of_whole_batches_and_a_short_one(kind: Callable[..., Descent]) -> None:
    short = kind(lr=1.0, epochs=3, batch=8)
    assert [short.steps(n, 2) for n in (1, 8, 9, 18)] == [3, 3, 6, 9]
    assert [kind(lr=1.0, per_shot=2, epochs=50).steps(n, 2) for n in (2, 10)] == [2, 10]  # epochs are nothing then


# -- combinations -----------------------------------------------------------------------------------------------


def test_then_keeps_a_linear_head() -> None:
    assert [stage.trains for stage in R["lp-ft"].stages] == [("head",), ("image", "head")]
    assert isinstance(R["lp-ft"].stages[1].head, Keep)
    assert isinstance(R["lp-ft"].head, Linear)
    assert R["lp-ft"].merge == R["ft"].merge
    # other features: another head
    assert then(R["kim-joint-probe"], R["ft"]).stages[1].head == R["ft"].stages[0].head
    assert isinstance(then(R["kim-joint-probe"], R["linear-pooled"]).stages[1].head, Keep)


def test_then_refuses_a_first_of_which_nothing_would_be_left() -> None:
    for first in ("linear", "linear-pooled", "cosine", "clip-adapter", "knn", "tip-adapter", "lp++"):
        for second in ("ln", "zero-shot", "taskres"):
            kind = re.escape(R[first].head.kind)
            with pytest.raises(ConfigError, match=f"all that a stage brings is its {kind} head"):
                then(R[first], R[second])
    with pytest.raises(ConfigError, match="all that a stage brings is its linear head"):
        then(R["linear-pooled"], R["ft"])  # on other features
    with pytest.raises(ConfigError, match="its cosine head"):
        then(then(R["ln"], R["cosine"]), R["knn"])  # a stage in the middle
    tree = R["linear"].tree()
    tree["stages"] += R["ln"].tree()["stages"]
    with pytest.raises(ConfigError, match="its linear head, and a later one puts another in its place"):
        Recipe.parse({**tree, "merge": None})  # from a file, too
    # what trains more than its head, or has added something, or is kept and then trains more
    for first in ("ft", "kim-joint-probe", "cocoop", "lp-ft", "ln"):
        assert then(R[first], R["kim-ln"]).head == Text()
    assert then(R["zero-shot"], R["ln"]).adapters == ()


def test_joint_trains_what_either_trains() -> None:
    both = joint(R["ln"], R["kim-probe"])
    assert both.stages[0].trains == ("image.*norm*", "head")  # no text under a linear head
    assert joint(R["bitfit"], R["ln"]).stages[0].trains == ("image.*bias", "text.*bias", "image.*norm*", "text.*norm*")
    assert both.stages[0].head == R["kim-probe"].stages[0].head
    for first, second in ((R["lp-ft"], R["ln"]), (R["ln"], R["lp-ft"]), (R["ln"], R["linear"])):
        with pytest.raises(ConfigError):
            joint(first, second)
    for head in ("ft", "kim-joint-probe", "cocoop"):
        with pytest.raises(ConfigError, match="the first trains a head of its own, the second's head is the texts"):
            joint(R[head], R["ln"])
    assert len(then(R["ln"], R["linear"]).stages) == 2


LEFT_OUT = [
    # all of the first is a head, and there is one
    ("clip-adapter", "taskres", "the first brings is its clip-adapter head, and a model answers with one head"),
    ("tip-adapter-f", "ln", "the first brings is its tip head, and a model answers with one head"),
    ("cosine", "linear", "the first brings is its cosine head, and a model answers with one head"),
    ("knn", "ft", "the first brings is its neighbours head, and a model answers with one head"),
    ("kim-joint-probe", "ft-cosine", "of what the first brings only its linear head is new"),
    # all of it, or all that the second lacks, is in the text tower
    ("ln-text", "cosine", r"text\.\*norm\* would be left out.*Use then\(\), where the cosine head starts at the texts"),
    ("flyp", "ft", r"text, scale would be left out.*Use then\(\), where the linear head starts at the texts.*ln-image"),
    ("ln-text", "kim-probe", r"would be left out.*Use a second with the text head, or a first that.*ln-image"),
    ("ln", "kim-joint-probe", r"text\.\*norm\* would be left out, because the second's linear head never asks"),
    ("lora", "lora-cosine", "lora on texts would be left out, because the second's cosine head never asks the text"),
    # or behind what the second reads
    ("prolip", "kim-probe", r"image\.projection would be left out.*reads features before the projection.*ln-image"),
    # all of it is in the second, the rest of it in the text tower
    ("ln", "ft", r"text\.\*norm\* would be left out.*the second alone would be left"),
    *((a, b, "all that the first trains the second trains too, so the second alone would be left") for a, b in (
        ("ln", "flyp"), ("ln-image", "ft"), ("ln-image", "ln"), ("ln-blocks", "ln"), ("ln-last-2", "kim-ln"),
        ("ln", "kim-any"), ("bitfit", "flyp"), ("bitfit-no-norm", "bitfit"), ("cosine", "cross-modal"),
        ("lora", "lora"),
    )),
    ("zero-shot", "ln", "the first trains nothing, so the second alone would be left"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "why"), LEFT_OUT)
def test_joint_refuses_to_be_the_second_alone(first: str, second: str, why: str) -> None:
    lora = Lora(at=("image.*.qkv.weight",))
    mine = {
        "ft-cosine": one(trains=("image.*norm*", "head"), head=Cosine(), fit=fit),
        "lora-cosine": one(adapters=(lora,), trains=("adapters", "head"), head=Cosine(), fit=fit),
    }
    with pytest.raises(ConfigError, match=rf"^joint\(.*{why}"):
        joint(R[first], mine.get(second) or R[second])


def test_joint_leaves_out_a_part_of_the_first() -> None:
    assert joint(R["ln"], R["cosine"]).stages[0].trains == ("image.*norm*", "head")
    both = one(trains=("image.projection", "image.*norm*"), fit=fit)
    assert joint(both, R["kim-probe"]).stages[0].trains == ("image.*norm*", "head")
    assert joint(both, R["cosine"]).stages[0].trains == ("image.projection", "image.*norm*", "head")
    assert joint(R["ft"], R["kim-probe"]).stages[0].trains == ("image", "head")


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("prolip", "ln", r"the first's loss \(cross-entropy, l2_sp=1/shots\) would be dropped.*Put it second"),
        ("flyp", "lora", r"the first's loss \(contrastive\) would be dropped.*Put it second"),
        (
            "flyp",
            "cosine",
            r"the first's loss \(contrastive\) would be dropped.*Use then\(\)",
        ),  # which cannot be second
        ("prolip", "flyp-published", "all that the first trains"),
        ("clip-lora", "ln", "the first's templates would be dropped.*Put it second"),
        ("caption", "lora", "the first's replay would be dropped.*Put it second"),
    ],
)
def test_joint_drops_nothing_of_the_first_unsaid(first: str, second: str, why: str) -> None:
    replayed = R["caption-token-replay"].stages[1]
    mine = {"caption": Recipe(stages=(replayed.model_copy(update={"loss": CrossEntropy()}),))}
    with pytest.raises(ConfigError, match=rf"^joint\(.*{why}"):
        joint(mine.get(first) or R[first], R[second])
    if "Put it second" in why:
        made = joint(R[second], mine.get(first) or R[first]).stages[0]
        assert (made.loss, made.head, made.replay) == tuple(
            getattr((mine.get(first) or R[first]).stages[0], part) for part in ("loss", "head", "replay")
        )


def test_a_combination_is_called_after_both() -> None:
    both = then(R["ln"], R["lp++"])
    assert both.title == "LayerNorm tuning, then LP++"
    assert both.paper == f"{R['ln'].paper}; {R['lp++'].paper}"
    assert joint(R["ln"], R["lora"]).title == "LayerNorm tuning + LoRA"
    assert joint(R["ln"], R["kim-adapter"]).paper == R["ln"].paper  # which is one
    assert then(R["ln"], R["lp++"], "mine", "none").title == "mine"
    assert then(one(trains=("image",), fit=fit), R["ln"]).title == ""


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: wise(R["linear"], 1.5), r"^wise\(linear probe, 1\.5\): alpha.*less than or equal to 1"),
        (lambda: wise(R["linear"], "x"), r"^wise\(linear probe, x\): alpha.*valid number"),
        (lambda: lines(R["ft"], -1), r"^lines\(full fine-tuning, -1\): first=-1: .*greater than or equal to 0"),
        (lambda: at_rate(R["ft"], -2), r"^at_rate\(full fine-tuning, -2\): lr=-2e-05: .*greater than 0"),
        (lambda: soup(R["ft"], "best"), r"^soup\(full fine-tuning, best\): kind='best': .*'uniform' or 'greedy'"),
        (lambda: soup(R["ft"], "greedy", (1.0, -1.0)), r"rates\.1=-1\.0: .*greater than 0"),
        (lambda: soup(R["ft"], "greedy", (1.0,)), "rates.*at least 2"),
    ],
)
def test_what_a_function_makes_is_checked(make: Callable[[], Recipe], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_features_once_become_batches_of_the_firsts_size() -> None:
    both = joint(R["ln"], R["prolip"]).stages[0]
    assert isinstance(both.fit, Descent)
    assert (both.fit.sampling, both.fit.batch) == ("images", 128)
    assert both.loss == CrossEntropy(l2_sp="1/shots")
    still = joint(R["ln-text"], R["prolip"]).stages[0].fit
    assert isinstance(still, Descent)
    assert (still.sampling, still.batch) == ("features", 1_000_000)


def sentence(error: ConfigError, called: str) -> str:
    """The reason, which is one: what was called, then words that end."""
    head, _, why = str(error).partition(": ")
    assert head.startswith(f"{called}(")
    assert len(why.split()) >= 8
    assert why.endswith(".")
    assert "Value error" not in why
    return why


@pytest.mark.parametrize("called", ["joint", "then"])
def test_any_two_recipes_make_a_third_or_say_why_not(called: str) -> None:
    combine = {"joint": joint, "then": then}[called]
    made, reasons = 0, Counter[str]()
    for a in ONE_STAGE.values():
        for b in ONE_STAGE.values():
            try:
                recipe = combine(a, b)  # nothing else may be raised
            except ConfigError as error:
                reasons[sentence(error, called)] += 1
                continue
            made += 1
            assert Recipe.parse(recipe.tree()) == recipe
            assert (recipe.merge is None) == bool(recipe.no_merge) == bool(no_path(recipe.stages))
            assert recipe.adapters == tuple(a for new in recipe.new_adapters for a in new)
    n = len(ONE_STAGE)
    assert made + sum(reasons.values()) == n * n
    text = [name for name, r in ONE_STAGE.items() if any(a.brings_texts for a in r.adapters)]
    assert {"coop", "cocoop", "maple", "kim-joint-prompt"} <= set(text)
    prompts = {name: next(a for a in R[name].adapters if a.brings_texts) for name in text}
    two = sum(prompts[a] != prompts[b] for a in text for b in text)
    stages = [r.stages[0] for r in ONE_STAGE.values()]
    bare = [a for a in stages if not isinstance(a.head, Text) and not a.adapters and set(a.trains) <= {"head"}]
    linear = [(s.head.features, s.head.bias) if isinstance(s.head, Linear) else None for s in stages]
    if called == "then":  # two prompts, or two of a kind: nothing else is in the way
        kinds = [{a.kind: a for a in r.adapters} for r in ONE_STAGE.values()]
        clash = sum(any(k in b and a[k] != b[k] for k in a if k != "prompt") for a in kinds for b in kinds)
        # and a first that is a head alone, which is kept by a linear one on the same features
        kept = [linear.count((a.head.features, a.head.bias)) for a in bare if isinstance(a.head, Linear)]
        lost = len(bare) * n - sum(kept)
        assert sum(reasons.values()) == two + clash + lost
        assert min(two, clash, lost) > 20
    else:  # counted by heads, by the second's fit, by what is left of an adapter, and by prompts
        still = sum(r.stages[0].fit is None for r in ONE_STAGE.values())
        solved = sum(isinstance(r.stages[0].fit, Lbfgs | Majorize) for r in ONE_STAGE.values())
        step = [r.stages[0] for r in ONE_STAGE.values() if isinstance(r.stages[0].fit, Descent)]
        assert n == still + solved + len(step)
        want = n * (still + solved)
        every = [
            f"{tower}.{place}" for tower in ("image", "text") for place in
            (*(f"{i}.{part}.{kind}" for i in range(4) for part in ("norm1", "qkv", "out", "norm2", "up", "down")
               for kind in ("weight", "bias")),
             "class", "tokens", "positions", "norm_pre.weight", "norm_post.weight", "norm_post.bias", "projection")
        ] + ["scale", "head.weight", "adapters.new"]  # fmt: skip
        for stage in step:
            for other in stages:
                owned = isinstance(stage.head, Text) and "head" in other.trains
                same = (linear[stages.index(stage)] or stage.head) == (linear[stages.index(other)] or other.head)
                owned |= other in bare and not same
                lost = not stage.reads_text and any(a.without_text() is None for a in other.adapters)
                wrote = {a for a in (*other.adapters, *stage.adapters) if a.brings_texts}
                clash = any(
                    a.kind == b.kind and a != b and (not a.places or set(a.places) & set(b.places))
                    for a in other.adapters for b in stage.adapters if not a.brings_texts
                )  # fmt: skip
                # what only the second's head could see to be something else than the second alone
                blind = () if stage.reads_text else ("text", "scale")
                blind += ("image.projection",) if getattr(stage.head, "features", "") == "pooled" else ()
                seen = [p for p in other.trains if not p.startswith(blind)]
                brought = {a if stage.reads_text else a.without_text() for a in other.adapters}
                more = {*select(seen, every)} - {*select(stage.trains, every)} or brought - {*stage.adapters}
                said = other.loss not in (CrossEntropy(), stage.loss)
                said |= other.head != stage.head and bool(getattr(other.head, "templates", ()))
                want += owned or lost or len(wrote) > 1 or clash or not more or said
        assert sum(reasons.values()) == want
        assert made == n * n - want > n


def test_text_patterns_are_left_out_under_a_head_that_reads_no_text() -> None:
    towers = one(trains=("image", "text", "scale"), fit=fit)
    for name in ("cosine", "clip-adapter", "kim-probe", "tip-adapter-f"):
        found = joint(towers, R[name]).stages[0]
        assert found.trains == tuple(dict.fromkeys(("image", *R[name].stages[0].trains))), name
        assert found.loss == R[name].stages[0].loss
    # under a head that does, they stay
    assert joint(towers, R["lora"]).stages[0].trains == ("image", "text", "scale", "adapters")
    assert joint(R["ln"], R["cocoop"]).stages[0].trains == ("image.*norm*", "text.*norm*", "adapters", "head")
    # of an adapter on both towers the image half is left; of one on texts alone, nothing, and that is said
    (lora,) = joint(R["lora"], R["cosine"]).stages[0].adapters
    assert lora == Lora(at=("image.*.qkv.weight",))
    for name in ("kim-adapter", "kim-compacter", "coop", "maple"):
        what = R[name].adapters[0].kind
        with pytest.raises(ConfigError, match=f"{what} acts through the class texts, and a cosine head reads none"):
            joint(R[name], R["cosine"])
    (kept,) = joint(R["vpt-deep"], R["cosine"]).stages[0].adapters
    assert kept == VisualPrompt()


def test_features_are_read_anew_once_the_first_moves_the_image_tower() -> None:
    def sampling(recipe: Recipe) -> str:
        fit = recipe.stages[0].fit
        assert isinstance(fit, Descent)
        return fit.sampling

    assert sampling(joint(R["ln"], R["cosine"])) == "images"
    assert sampling(joint(R["vpt-deep"], R["coop"])) == "images"
    assert sampling(joint(R["maple"], R["kim-adapter"])) == "images"
    assert sampling(joint(R["ln-text"], R["coop"])) == "features"
    assert sampling(joint(R["kim-adapter"], R["coop"])) == "features"
    assert sampling(joint(one(trains=("image.projection",), fit=fit), R["cosine"])) == "images"
    assert sampling(joint(R["lora"], R["flyp-published"])) == "pairs"


def test_two_prompts_are_refused_however_they_come() -> None:
    mine = one(adapters=(Prompt(length=3),), trains=("adapters",), fit=fit)
    for combine in (joint, then):
        for other in ("coop", "cocoop", "maple"):
            for a, b in ((mine, R[other]), (R[other], mine)):
                if (combine, a) != (joint, R["cocoop"]):  # which has a head in the way, too
                    with pytest.raises(ConfigError, match="both write the class prompts"):
                        combine(a, b)
    assert then(mine, mine).adapters == mine.adapters  # the same one goes on
    with pytest.raises(ValueError, match="both write the class prompts"):
        one(adapters=(Prompt(length=3), Prompt(length=4)), trains=("adapters",), fit=fit)
    assert Maple().on_images
    assert not Prompt().on_images


def test_an_adapter_of_an_earlier_stage_is_held_in_a_later_one() -> None:
    both = then(R["lora"], R["kim-adapter"])
    assert [stage.patterns for stage in both.stages] == [("adapters.lora",), ("adapters.bottleneck",)]
    assert [[a.kind for a in new] for new in both.new_adapters] == [["lora"], ["bottleneck"]]
    first, second = "adapters.lora.image.0.qkv.q.up", "adapters.bottleneck.text.0.mlp.up"
    plans = [make_plan(stage.patterns, {first: 5, second: 7, "image.0.up.bias": 3}) for stage in both.stages]
    assert [plan.trains for plan in plans] == [(first,), (second,)]
    assert [plan.held for plan in plans] == [10, 8]
    # named in full, or added again, it trains on
    named = then(R["lora"], one(trains=("adapters.lora", "scale"), fit=fit))
    assert named.stages[1].patterns == ("adapters.lora", "scale")
    again = then(R["lora"], joint(R["lora"], R["ln"]))
    assert again.stages[1].patterns == ("adapters.lora", "image.*norm*", "text.*norm*")
    assert again.new_adapters == [[Lora()], []]
    # one pattern for several kinds, in the stage's order
    three = joint(R["film"], joint(R["lora"], R["kim-compacter"]))
    assert three.stages[0].patterns == ("adapters.film", "adapters.lora", "adapters.compacter")


def test_two_of_a_kind_in_two_stages_would_not_be_told_apart() -> None:
    for first, second in (("film", "film-blocks"), ("lora", "clip-lora"), ("houlsby", "kim-adapter")):
        kind = R[first].adapters[0].kind
        with pytest.raises(ConfigError, match=f"two stages add a {kind} each"):
            then(R[first], R[second])
    assert [a.kind for a in joint(R["film"], R["film-blocks"]).adapters] == ["film", "film"]  # at once they may


# -- paths, soups, contradictions -------------------------------------------------------------------------------


def test_what_has_no_path_says_why() -> None:
    with pytest.raises(ConfigError, match="neighbours"):
        wise(R["knn"], 0.5)
    with pytest.raises(ConfigError, match="CoOp has no path to the pretrained model: a learned prompt"):
        lines(R["coop"])
    assert wise(R["flyp"], 0.25).merge.alpha == 0.25  # type: ignore[union-attr]
    assert lines(R["flyp"], 0.25).merge.first == 0.25  # type: ignore[union-attr]


NO_PATH = {
    "nothing trained": ("zero-shot",),
    "a neighbours head": ("knn",),
    "before the projection": ("linear-pooled", "kim-probe", "kim-joint-probe", "kim-init-probe", "kim-high"),
    "a learned prompt is": ("coop", "coop-words", "coop-classes", "kim-prompt", "kim-joint-prompt", "kim-init-prompt"),
    "a conditional head": ("cocoop",),
    "learned tokens are": ("vpt-shallow", "vpt-deep"),
    "learned words and tokens": ("maple",),
    "a CLIP-Adapter": ("clip-adapter",),
    "a Tip-Adapter": ("tip-adapter", "tip-adapter-f"),
}


def test_every_recipe_without_a_path_has_the_reason_of_its_own_part() -> None:
    reasons = {name: reason for reason, names in NO_PATH.items() for name in names}
    for name, recipe in RECIPES.items():
        assert recipe.no_merge == no_path(recipe.stages)
        assert (recipe.merge is None) == (name in reasons), name
        assert reasons.get(name, "") in recipe.no_merge
        if recipe.merge is None:
            with pytest.raises(ConfigError, match="config: merge: "):
                Recipe.parse({**recipe.tree(), "merge": {"form": "weights"}})
        else:
            assert recipe.merge.form == ("weights" if isinstance(recipe.head, Text) else "head")


NO_SOUP = {
    "no stage has a learning rate, by which members differ": (
        "zero-shot", "knn", "linear", "linear-pooled", "tip-adapter", "lp++",
    ),
    "what bottleneck adds is not linear": (
        "houlsby", "pfeiffer", "parallel", "kim-adapter", "kim-joint-adapter", "kim-init-adapter", "caption-bottleneck",
        "caption-token-replay",
    ),
    "what caption-tokens adds is not linear": ("caption-tokens",),
    "what compacter adds is not linear": (
        "compacter", "compacter++", "kim-compacter", "kim-joint-compacter", "kim-init-compacter", "kim-low",
    ),
    "what lora adds is not linear": ("lora", "clip-lora", "caption-lora"),
    "what prompt adds is not linear": (
        "coop", "coop-words", "coop-classes", "kim-prompt", "kim-joint-prompt", "kim-init-prompt",
    ),
    "what visual-prompt adds is not linear": ("vpt-shallow", "vpt-deep"),
    "what maple adds is not linear": ("maple",),
    "a cosine head brings each sum of text and residual to the text's length": (
        "cosine", "taskres", "clap", "2sfs", "cross-modal",
    ),
    "a conditional head's net has hidden units": ("cocoop",),
    "a CLIP-Adapter has hidden units": ("clip-adapter",),
    "a Tip-Adapter's scores are exponentials of its keys": ("tip-adapter-f",),
}  # fmt: skip


def test_every_recipe_has_a_soup_or_a_reason() -> None:
    reasons = {name: reason for reason, names in NO_SOUP.items() for name in names}
    assert set(reasons) <= set(RECIPES)
    for name, recipe in RECIPES.items():
        why = no_soup(recipe.stages)
        assert bool(why) == (name in reasons), name
        assert reasons.get(name, "") in why
        if why:
            with pytest.raises(ConfigError, match=f"has no soup: {reasons[name]}"):
                soup(recipe, "uniform")
        else:
            made = soup(recipe, "greedy", rates=(1.0, 2.0))
            assert made.stages == recipe.stages
            assert made.soup is not None
            assert made.soup.rates == (1.0, 2.0)
    assert all(adapter.linear == isinstance(adapter, Film) for r in RECIPES.values() for adapter in r.adapters)


def test_a_soup_of_a_soup_is_called_by_its_own_kind() -> None:
    first = soup(R["ln"], "greedy")
    assert first.title == "LayerNorm tuning, greedy soup"
    assert soup(first, "uniform").title == "LayerNorm tuning, uniform soup"
    assert soup(first, "uniform") == soup(R["ln"], "uniform")
    assert soup(R["ft-soup"], "greedy").title == "greedy soup"  # which is called «uniform soup», after nothing
    assert soup(first, "greedy", title="mine").title == "mine"


def test_contradictions_are_refused() -> None:
    for stage in (
        {"trains": ("head",)},
        {"trains": (), "fit": AdamW(lr=1.0)},
        {"trains": ("head",), "fit": AdamW(lr=1.0)},
    ):
        with pytest.raises(ValueError, match=r"fit|head"):
            one(**stage)
    assert all(Recipe.parse(recipe.tree()) == recipe for recipe in RECIPES.values())


def test_a_kept_head_must_suit_the_solver() -> None:
    probe = Stage(head=Keep(), trains=("head",), fit=Lbfgs())
    for head, right in ((Linear(), True), (Linear(bias=False), False), (Cosine(), False)):
        stages = (Stage(head=head, trains=("head",), fit=fit), Stage(head=Keep(), trains=("head",), fit=fit), probe)
        if right:
            assert Recipe(stages=stages).head == head
        else:
            with pytest.raises(ValueError, match="lbfgs solves for a linear head with a bias"):
                Recipe(stages=stages)


def test_a_conditional_head_needs_a_prompt() -> None:
    with pytest.raises(ValueError, match="moves the vectors of a prompt"):
        one(head=Conditional(), trains=("head",), fit=fit)
    with pytest.raises(ValueError, match="moves the vectors of a prompt"):
        one(adapters=(Maple(),), head=Conditional(), trains=("head", "adapters"), fit=fit)
    stages = (*R["coop"].stages, Stage(head=Conditional(), trains=("head",), fit=fit))
    assert Recipe(stages=stages).adapters == R["coop"].adapters  # one of an earlier stage will do


def test_what_could_never_move_is_refused_when_it_is_planned() -> None:
    sizes = {"image.0.norm1.weight": 4, "text.0.norm1.weight": 4, "scale": 1, "head.weight": 6}
    whole = R["ft"].stages[0].model_copy(update={"trains": ("image", "text", "head")})
    with pytest.raises(ConfigError, match=r"trains names text\.0\.norm1\.weight.* linear head never asks the text"):
        whole.plan(sizes)
    with pytest.raises(ConfigError, match="scale"):
        whole.model_copy(update={"trains": ("image", "scale", "head")}).plan(sizes)
    assert R["ft"].stages[0].plan(sizes).trains == ("image.0.norm1.weight", "head.weight")
    assert "scale" in R["flyp"].stages[0].plan(sizes).trains


def test_the_projection_is_no_part_of_the_tower_under_a_head_before_it() -> None:
    sizes = {"image.0.up.weight": 4, "image.projection": 8, "text.projection": 8, "head.weight": 6}
    both = joint(R["ft"], R["kim-probe"]).stages[0]
    assert both.plan(sizes).trains == ("image.0.up.weight", "head.weight")
    assert both.plan(sizes).held == 16
    assert not both.plan(sizes).image_constant
    assert R["ft"].stages[0].plan(sizes).trains == ("image.0.up.weight", "image.projection", "head.weight")
    alone = both.model_copy(update={"trains": ("image", "image.projection", "head")})
    with pytest.raises(ConfigError, match=r"names image\.projection, but a linear head on pooled features.*shared"):
        alone.plan(sizes)
    added = {**sizes, "adapters.lora.image.projection.up": 2}
    with pytest.raises(ConfigError, match=r"names adapters\.lora, but"):
        Stage(adapters=(Lora(),), trains=("adapters", "head"), head=both.head, fit=fit).plan(added)
    # of a head that is kept it is known too
    kept = then(R["kim-probe"], joint(R["ft"], R["kim-probe"]))
    assert [stage.head.kind for stage in kept.stages] == ["linear", "keep"]
    assert [stage.head for stage in kept.settled] == [R["kim-probe"].head] * 2
    assert kept.settled[1].plan(sizes).trains == ("image.0.up.weight", "head.weight")
    assert [stage.head for stage in R["lp-ft"].settled] == [Linear()] * 2


def test_features_that_are_computed_once_and_moved_are_refused_when_it_is_planned() -> None:
    sizes = {"image.0.up.weight": 4, "image.projection": 8, "text.0.up.weight": 1}
    still = fit.model_copy(update={"sampling": "features"})
    with pytest.raises(ConfigError, match=r"computes features once, but image\.0\.up\.weight trains"):
        Stage(trains=("image", "text"), fit=still).plan(sizes)
    assert Stage(trains=("image.projection", "text"), fit=still).plan(sizes).trunk_constant


def test_two_adapters_of_one_kind_do_not_meet_in_one_place() -> None:
    for first, second in (("houlsby", "parallel"), ("lora", "clip-lora"), ("vpt-shallow", "vpt-deep")):
        with pytest.raises(ConfigError, match=r"both put a .* in the same places"):
            joint(R[first], R[second])
