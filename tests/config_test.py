"""Configuration trees: refused early with words that help, edited by path, equal trees with equal fingerprints."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from likewise.config import Config, fingerprint
from likewise.errors import ConfigError, DataError, Interrupted, UsageError, near, some
from likewise.recipe import AdamW, Experiment, Lbfgs, Recipe, Stage
from likewise.recipes import RECIPES


def refusal(kind: type[Config], tree: object) -> str:
    with pytest.raises(ConfigError) as caught:
        kind.parse(tree, "here.yaml")
    assert caught.value.code == "C01"
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, UsageError)
    return str(caught.value)


def test_an_unknown_key_names_itself_the_near_miss_and_the_fields() -> None:
    said = refusal(Recipe, {"titel": "x", "stages": [{}]})
    assert "here.yaml: unknown key «titel»." in said
    assert "Did you mean title?" in said
    assert "Fields: title, paper, stages, merge, no_merge, soup." in said


@pytest.mark.parametrize(
    ("kind", "tree", "key", "hint", "fields"),
    [
        (Recipe, {"stages": [{"trainz": []}]}, "stages.0.trainz", "trains", Stage.model_fields),
        (
            Recipe, {"stages": [{"trains": ["head"], "fit": {"kind": "adamw", "lr": 1, "epoch": 3}}]},
            "epoch", "epochs", AdamW.model_fields,
        ),
        (
            Recipe, {"stages": [{"trains": ["head"], "fit": {"kind": "lbfgs", "pth": 1}}]},
            "pth", "path", Lbfgs.model_fields,
        ),
        # below a dictionary: the fields are those of the stage, not of the recipe above it
        (
            Experiment, {"encoder": "", "encoder_digest": "", "data": "", "data_digest": "",
                         "recipes": {"mine": {"stages": [{"trainz": []}]}}},
            "recipes.mine.stages.0.trainz", "trains", Stage.model_fields,
        ),
    ],
)  # fmt: skip
def test_an_unknown_key_deep_in_the_tree(kind: type[Config], tree: object, key: str, hint: str, fields: object) -> None:
    said = refusal(kind, tree)
    assert f"{key}»" in said
    assert f"Did you mean {hint}" in said
    assert f"Fields: {', '.join(fields)}." in said  # type: ignore[call-overload]


def test_a_missing_and_a_bad_value_are_named_with_their_path() -> None:
    assert "«stages» is missing" in refusal(Recipe, {})
    said = refusal(AdamW, {"lr": -1, "batch": "many"})
    assert "lr=-1: Input should be greater than 0" in said
    assert "batch='many'" in said  # all mistakes at once
    said = refusal(Recipe, {"stages": [{"trains": ["head"], "fit": {"kind": "adam"}}]})
    assert "'adamw', 'sgd', 'lbfgs', 'majorize'" in said  # the choices
    said = refusal(Recipe, {"stages": [{"adapters": [{"kind": "loar"}]}]})
    assert "'film', 'lora', 'maple'" in said
    said = refusal(Recipe, {"stages": [{"head": {"kind": "txt"}}]})
    assert "'text', 'keep', 'clip-adapter'" in said


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"stages": [{"trains": ["image"]}]}, "needs a fit"),
        ({"stages": [{"fit": {"kind": "adamw", "lr": 1}}]}, "needs a fit"),
        ({"stages": [{"trains": ["image"], "fit": {"kind": "lbfgs"}}]}, "constant features"),
        ({"stages": [{"trains": ["image"], "fit": {"kind": "majorize"}}]}, "constant features"),
        ({"stages": [{"trains": ["head"], "fit": {"kind": "majorize"}}]}, "the solver of the lp++ head, and of no"),
        (
            {"stages": [{"trains": ["head"], "head": {"kind": "lp++"}, "fit": {"kind": "sgd", "lr": 1}}]},
            "the solver of the lp++ head, and of no other",
        ),
        (
            {"stages": [{"trains": ["head"], "head": {"kind": "linear", "bias": False}, "fit": {"kind": "lbfgs"}}]},
            "a linear head with a bias",
        ),
        ({"stages": [{"trains": ["head"], "fit": {"kind": "adamw", "lr": 1}}]}, "a text head has no numbers"),
        (
            {"stages": [{"trains": ["head"], "head": {"kind": "tip"}, "fit": {"kind": "adamw", "lr": 1}}]},
            "a tip head has no numbers of its own to train",
        ),
        (
            {"stages": [{"head": {"kind": "linear", "features": "pooled"}}]},
            "pooled features cannot start from the texts",
        ),
        ({"stages": [{"adapters": [{"kind": "prompt", "text": "a"}]}]}, "text needs one {}"),
        ({"stages": [{}], "merge": {"form": "weights"}}, "merge: nothing trained, so there is no second end"),
        ({"stages": [{}], "soup": {"kind:greedy": None}}, "A space is missing: write kind: greedy"),
        ({"stages": [{}], "soup": {}}, "soup: no stage has a learning rate"),
        ({"stages": [{"head": {"kind": "keep"}}]}, "cannot begin with the head of the stage before"),
        (
            {"stages": [{"trains": ["head"], "head": {"kind": "linear"}, "loss": {"kind": "contrastive"},
                         "fit": {"kind": "adamw", "lr": 1}}]},
            "its head must be the text head",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tree: object, why: str) -> None:
    said = refusal(Recipe, tree)
    assert why in said
    assert "Value error" not in said
    assert "{'" not in said  # the path says where; the tree is not shown
    assert len(said.splitlines()) == 1


def test_trees_are_frozen() -> None:
    with pytest.raises(ValidationError):
        AdamW(lr=1.0).lr = 2.0  # type: ignore[misc]


def test_edits_reach_into_lists_and_unions_and_leave_the_original() -> None:
    recipe = RECIPES["lp-ft"]
    edited = recipe.edited(
        "stages.1.fit.lr=3e-4", "stages.0.fit.path=[0.5, 1e1]", "title=mine", "stages.1.fit.decay_all=true"
    )
    first, second = edited.stages[0].fit, edited.stages[1].fit
    assert isinstance(first, Lbfgs)
    assert isinstance(second, AdamW)
    assert (second.lr, second.decay_all, first.path, edited.title) == (0.0003, True, (0.5, 10.0), "mine")
    assert recipe == RECIPES["lp-ft"] != edited
    assert edited.edited(f"title={recipe.title}").title == recipe.title
    # every edit at its place, and nothing else: the trees differ in four leaves
    assert RECIPES["ft"].edited("stages.0.trains=[image, head]") == RECIPES["ft"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("stages.1.fit.lrr=1", "no field «lrr» in stages.1.fit. Did you mean lr"),
        ("stages.7.fit.lr=1", "stages is a list of 2; «7» is not an index into it"),
        ("stages.x=1", "«x» is not an index"),
        ("title.x=1", "title is the value 'LP-FT' and has no field «x»"),
        ("title", "is not an edit"),
        ("stages.1.fit.lr=nothing", "lr='nothing'"),
        ("stages.1.fit.lr=[1", "is not a YAML value"),
        ("stages.0.trains=[e", "is not a YAML value"),  # an e makes it look like a number first
        ("stages.1.fit.lr=-1", "greater than 0"),
    ],
)
def test_edits_that_cannot_be_say_why(edit: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RECIPES["lp-ft"].edited(edit)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_and_json_round_trips(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.yaml())
    assert Recipe.read(path) == recipe
    path.write_text(json.dumps(recipe.tree()))  # JSON is YAML
    assert Recipe.read(path) == recipe
    assert fingerprint(Recipe.read(path)) == fingerprint(recipe)


@settings(max_examples=50, deadline=None)
@example(lr=1.0, clip=float("inf"), title="é\x85\u2028")  # a line break of old terminals, which PyYAML folds away
@given(
    lr=st.floats(min_value=1e-300, max_value=1e300),
    clip=st.floats(min_value=0, allow_nan=False),
    title=st.text(max_size=20),
)
def test_any_number_and_any_text_survive_yaml(lr: float, clip: float, title: str) -> None:
    import yaml

    recipe = RECIPES["ft"].model_copy(update={"title": title})
    stage = recipe.stages[0].model_copy(update={"fit": AdamW(lr=lr, clip=clip)})
    recipe = recipe.model_copy(update={"stages": (stage,)})
    assert Recipe.parse(yaml.safe_load(recipe.yaml())) == recipe


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not YAML"):
        Recipe.read(path)
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match="is not YAML"):
        Recipe.read(path)
    path.write_text("stages: [{head: {kind: text}, trains: [head], head: {kind: linear}}]")
    with pytest.raises(ConfigError, match="«head» stands twice"):
        Recipe.read(path)


def test_the_fingerprint_is_a_known_hash_of_canonical_json() -> None:
    text = '{"a":[1,2.5,"x"],"b":null}'
    assert fingerprint({"b": None, "a": (1, 2.5, "x")}) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_fingerprints_tell_all_recipes_apart_and_see_every_leaf() -> None:
    assert len({fingerprint(recipe) for recipe in RECIPES.values()}) == len(RECIPES)
    recipe = RECIPES["flyp"]
    edits = [
        "stages.0.fit.lr=1e-9",
        "stages.0.loss.clamp=false",
        "merge.alpha=0.25",
        "stages.0.fit.batch=129",
        "paper=x",
    ]
    assert len({fingerprint(recipe), *(fingerprint(recipe.edited(edit)) for edit in edits)}) == len(edits) + 1


def test_near_and_some() -> None:
    assert near("titel", ["title", "paper"]) == " Did you mean title?"
    assert near("zzz", ["title", "paper"]) == ""
    assert some("abc", 5) == "a, b, c"
    assert some("abcdefg", 5) == "a, b, c, d, e and 2 more"


def test_an_error_travels_between_processes_as_it_is() -> None:
    report = DataError("D04", "two tables")
    report.audit = {"counts": 3}  # type: ignore[attr-defined]
    for error in (Interrupted("I01", "stopped"), ConfigError("no such key"), ConfigError("two", "M02"), report):
        found = pickle.loads(pickle.dumps(error))
        assert (type(found), str(found), found.__dict__) == (type(error), str(error), error.__dict__)
