"""What is refused before a run writes anything, and what is only said."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import pytest

import likewise as lw
from likewise.adapters import Prompt, grafted
from likewise.data.prompts import fill
from likewise.data.records import ClassTable, Dataset
from likewise.encoder import Encoder, learned
from likewise.errors import ConfigError, DataError, UsageError
from likewise.heads import class_texts, text_head
from likewise.predict import text_rows
from likewise.recipe import one, then
from likewise.recipes import RECIPES
from likewise.run.before import foresee, twins
from likewise.run.sweep import Plan, sweep
from tiny import shrunk

LONG = "very " * 20
TAILS = (f"{LONG}red", f"{LONG}green", "blue")
"""The first two are alike in the 14 tokens that the tiny encoders read between start and end."""


def told(data: Dataset, names: Sequence[str], templates: Sequence[str] = ("a {}.", "one {} thing.")) -> Dataset:
    """The colours under other names."""
    table = ClassTable(names=tuple(names), folders=data.classes.folders)
    report = list(data.read_report("a copy").values())
    fresh = dataclasses.replace(data, classes=table, templates=tuple(templates), report=report)
    fresh.audit = type(data.audit)()
    return fresh


@pytest.mark.parametrize(
    ("names", "templates", "want"),
    [
        (("red", "green", "blue"), ("a {}.",), []),
        (TAILS, ("a {}.", "one {} thing."), [(0, 1)]),
        (("red", "Red", "RED"), ("a {}.",), [(0, 1), (0, 2)]),
        (("red", "green", "blue"), (LONG + "{}",), [(0, 1), (0, 2)]),
        (("red", "green", "blue"), (LONG + "{}", "a {}."), []),  # one template that tells them is enough
        (("red", "green", "blue"), ("{} " + LONG,), []),
    ],
)
def test_twins_are_classes_with_equal_ids_in_every_prompt(
    encoder_of: Callable[[str], Encoder], names: Sequence[str], templates: Sequence[str], want: list[tuple[int, int]]
) -> None:
    prompts = fill(templates, names)
    assert twins(encoder_of("plain"), prompts) == want
    rows = [open_clip.SimpleTokenizer()(texts, context_length=16).tolist() for texts in prompts]
    assert {rows.index(row) for i, row in enumerate(rows) if rows.index(row) < i} == {a for a, _ in want}


def test_classes_that_no_text_head_can_tell_apart_are_an_error_where_one_is_asked(
    encoder_of: Callable[[str], Encoder], data: Dataset
) -> None:
    encoder = encoder_of("plain")
    mine = {name: shrunk(RECIPES[name]) for name in ("ln", "linear", "flyp", "coop", "zero-shot")}
    want = r"«very .*….*red» and «very .*….*green» are the same tokens.*each cut at 16.*--classes"
    with pytest.raises(DataError, match=want) as e:
        foresee(encoder, told(data, TAILS), mine, ("ln", "linear", "flyp"))
    assert e.value.code == "D16"
    assert "and ln, flyp would have no other way" in str(e.value)
    with pytest.raises(DataError, match="and coop would have no other way"):  # which writes prompts of its own
        foresee(encoder, told(data, TAILS), mine, ("coop",))
    same = told(data, ("red", "Red", "blue"))
    with pytest.raises(DataError, match="«red» and «Red» are the same tokens to") as e:
        foresee(encoder, same, mine, ("flyp",))
    assert "cut at" not in str(e.value)
    # heads with numbers of their own may learn what the texts do not say
    found = foresee(encoder, same, {name: RECIPES[name] for name in ("zero-shot", "linear", "2sfs", "knn")}, ("2sfs",))
    assert [finding.code for finding in found] == ["D16"]
    assert "starts with a tie" in found[0].message
    assert foresee(encoder, told(data, ("red", "green", "blue")), {"ln": RECIPES["ln"]}, ("ln",)) == []


def test_what_is_refused_leaves_no_folder(encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path) -> None:
    encoder, linear = encoder_of("plain"), {"linear": shrunk(RECIPES["linear"])}
    # no parameter of that name; a projection that would not move; features that would
    refused = {
        "a": one(trains=("image.7.norm*",), fit=RECIPES["ln"].stages[0].fit),
        "b": one(trains=("image.projection", "head"), head=RECIPES["kim-probe"].head, fit=RECIPES["ln"].stages[0].fit),
        "c": RECIPES["ln"].edited("stages.0.fit.sampling=features"),
    }
    for name, recipe in refused.items():
        for go in (
            lambda out, mine: lw.adapt(encoder, data, mine, out),
            lambda out, mine: list(sweep(encoder, data, mine, out, Plan(shots=(1, 2), seeds=(0,)))),
        ):
            with pytest.raises(ConfigError, match=f"^{name} cannot be used with"):
                go(tmp_path / "out", {**linear, name: recipe})
            assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="the same tokens"):
        lw.adapt(encoder, told(data, TAILS), {"ln": RECIPES["ln"]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tie_of_texts_is_said_where_a_head_may_break_it(
    encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    alike = told(data, TAILS)
    for out in (tmp_path / "one", tmp_path / "two"):  # what the first run warns of is none of the second's
        run = lw.adapt(encoder_of("plain"), alike, {"linear": shrunk(RECIPES["linear"])}, out)
        audit = json.loads((run.path / "data" / "audit.json").read_text())
        assert [finding["code"] for finding in audit["warnings"]] == ["D11", "D16"]


def test_a_run_that_failed_says_what_can_be_done(
    encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, linear = encoder_of("plain"), {"linear": shrunk(RECIPES["linear"])}
    with monkeypatch.context() as patch:
        patch.setattr("likewise.run.adapt.ask", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lw.adapt(encoder, data, linear, tmp_path / "out")
    assert (tmp_path / "out" / "STATUS").read_text() == "failed\n"
    with pytest.raises(UsageError, match=r"already holds a run that failed\. Mend what it failed at.*--overwrite"):
        lw.adapt(encoder, data, linear, tmp_path / "out")
    with pytest.raises(UsageError, match=r"holds no finished run \(failed\)\. Mend what it failed at"):
        lw.Run.load(tmp_path / "out")
    assert lw.adapt(encoder, data, linear, tmp_path / "out", resume=True).results["chosen"]


# -- the private plane ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 7, 65_533])
def test_a_learned_words_character_is_refused_where_nothing_reads_it(
    encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path, number: int
) -> None:
    name, encoder = f"r{learned(number)}d", encoder_of("plain")
    code = rf"U\+{0xF0000 + number:X}"
    with pytest.raises(ConfigError, match=rf"class name '.*d' has the character {code} of Unicode's private plane"):
        fill(["a {}."], ["blue", name])
    with pytest.raises(ConfigError, match=f"template '.*' has the character {code}"):
        fill([name + "{}"], ["blue"])
    with pytest.raises(ConfigError, match="class name"):
        lw.adapt(encoder, told(data, (name, "green", "blue")), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for ask in (class_texts, text_head):
        with pytest.raises(ConfigError, match=rf"the text 'a r\\U000f{number:04x}d\.' has .* and no prompt stands in"):
            ask(encoder, [["a blue."], [f"a {name}."]])
    with pytest.raises(ConfigError, match="no prompt stands in"):
        text_rows(encoder, ["blue", name], cache=tmp_path)
    assert fill(["a {}."], ["\U000ffffe \ue000"]) == [["a \U000ffffe \ue000."]]  # others of private use are nobody's


def test_with_a_prompt_it_is_read(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    with grafted(encoder, (Prompt(length=2),)):
        assert class_texts(encoder, [[f"{learned(0)}{learned(1)} blue"]]).shape == (1, encoder.shared_width)
    assert then(RECIPES["coop"], RECIPES["linear"]).adapters == RECIPES["coop"].adapters
