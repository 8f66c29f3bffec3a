"""The pages: every recipe in one table, links that lead somewhere, commands and examples that parse.

What is generated is held to the values as far as that is fast; `python tools/update_methods.py --check` asks the rest.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import likewise as lw
from likewise import suites
from likewise.api import AUTO, ladder
from likewise.cli import app
from likewise.recipe import Recipe
from likewise.recipes import FAMILIES, LADDERS, RECIPES
from scripts import ROOT, script

METHODS = ROOT / "docs" / "methods"
PAGES = sorted(METHODS.glob("*.md"))
ALL = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), *PAGES]
MARKED = {**dict.fromkeys(FAMILIES, ("table", "departs")), "README": ("table", "fixed", "alpha")}
COMMANDS: Any = typer.main.get_command(app)


def part(page: Path, name: str) -> str:
    """What stands between two markers."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page.read_text(), re.DOTALL)
    assert found, f"{page.name} has no place for «{name}»"
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """The tables in a text, as rows of cells without the head."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [[[c.strip() for c in line.strip("|").split(" | ")] for line in b.splitlines()[2:]] for b in blocks]


@pytest.fixture(scope="module")
def tool() -> Any:
    return script("tools/update_methods.py")


# -- what is generated ------------------------------------------------------------------------------------------


def test_there_is_a_page_for_each_family_and_no_other() -> None:
    assert {page.stem for page in PAGES} == set(MARKED)
    for page in PAGES:
        assert re.findall(r"<!-- (/?\w+) -->", page.read_text()) == [
            mark for name in MARKED[page.stem] for mark in (name, f"/{name}")
        ]
        assert all(part(page, name).strip() for name in MARKED[page.stem])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_recipe_is_in_its_familys_tables_and_in_its_words(family: str) -> None:
    page = METHODS / f"{family}.md"
    found = tables(part(page, "table"))
    assert len(found) == 3
    for rows in found:
        assert [row[0] for row in rows] == [f"`{name}`" for name in FAMILIES[family]]
    words = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", page.read_text(), flags=re.DOTALL)
    assert [name for name in FAMILIES[family] if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w+-])", words)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_what_needs_no_encoder_is_current(family: str, tool: Any) -> None:
    first, second, third = tables(part(METHODS / f"{family}.md", "table"))
    for name, trains, can, costs in zip(FAMILIES[family], first, second, third, strict=True):
        recipe = RECIPES[name]
        assert trains[:3] == tool.what(name)
        assert trains[-1] == tool.linked(recipe.paper)
        assert can[-3].split(" ")[0] == (recipe.merge.form if recipe.merge else "no")
        assert costs[1] == "; then ".join(tool.fitted(stage) for stage in recipe.stages)
        assert costs[2] == f"{tool.steps(recipe, tool.PICTURES, tool.CLASSES):,}"
    assert part(METHODS / f"{family}.md", "departs") == tool.departures(family)


def test_some_numbers_by_hand() -> None:
    """Counts on ViT-B/16, widths 768 and 512, 12 blocks in each tower; steps for 160 pictures of 10 classes."""
    counts, steps = {}, {}
    for family in FAMILIES:
        first, _, third = tables(part(METHODS / f"{family}.md", "table"))
        counts |= {row[0].strip("`"): int(row[3].replace(",", "")) for row in first}
        steps |= {row[0].strip("`"): int(row[2].replace(",", "")) for row in third}
    want = {
        "ln": 2 * (26 * 768 + 25 * 512),
        "bitfit": (26 * 768 + 25 * 512) + 12 * 9 * (768 + 512),
        "clip-lora": 12 * 3 * 2 * 2 * (768 + 512),
        "pfeiffer": 12 * (2 * 24 * (768 + 512) + 2 * 24 + 768 + 512),
        "kim-compacter": 12 * 3 * (512 + 24) + 4**3,
        "linear": 10 * 513,
        "tip-adapter-f": 160 * 512,
        "cocoop": 4 * 512 + 512 * 32 + 32 + 32 * 512 + 512,
        "kim-joint-probe": 2 * 26 * 768 + 10 * 769,
        "caption-ln": 2 * 25 * 768 + 768 * 512 + 1,
        "caption-film-blocks": 2 * 12 * 768 + 768 * 512 + 1,
    }
    assert {name: counts[name] for name in want} == want
    assert (steps["ft"], steps["ft-soup"], steps["kim-init-probe"], steps["clip-lora"]) == (20, 60, 1000, 8000)


def test_the_overviews_parts_are_current(tool: Any) -> None:
    assert part(METHODS / "README.md", "table") == tool.index()
    assert part(METHODS / "README.md", "alpha") == tool.alphas()


def test_a_page_is_filled_between_its_markers_only(tool: Any) -> None:
    page = "a\n<!-- x -->\nold | \\1\n<!-- /x -->\nb <!-- y --> c\n"
    once = tool.filled(page, {"x": "new \\1 \n"})
    assert once == "a\n<!-- x -->\nnew \\1 \n<!-- /x -->\nb <!-- y --> c\n"
    assert tool.filled(once, {"x": "new \\1 \n"}) == once
    for lost in ("", "<!-- x -->\n", "<!-- /x -->"):
        with pytest.raises(SystemExit, match="no place for «x»"):
            tool.filled(lost, {"x": ""})


def test_departures_are_whole_paragraphs_of_docstrings(tool: Any) -> None:
    def odd() -> None:
        """First. Departs: this
        and that.

        Not this.
        """

    def plain() -> None:
        """Departs from nothing."""

    assert tool.departed(odd) == "this and that."
    assert tool.departed(plain) == ""
    assert "- **steps** ([code](../../src/likewise/heads/lpp.py)): The blend's gradient" in tool.departures("features")
    assert "**Wise**" in tool.departures("whole")
    assert "**Wise**" not in tool.departures("norms")  # whose recipes have no LiNeS


# -- links ------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The places in a page, as GitHub names them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


# -- commands and examples --------------------------------------------------------------------------------------


def lines_of(page: Path) -> list[str]:
    """Every `likewise ...` in a page's code: fenced, indented, and within a line. Comments and prompts fall away."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    code = [line for block in fenced for line in block.splitlines()]
    code += [line for line in rest.splitlines() if line.startswith("    ")]
    code += re.findall(r"`(likewise [^`]+)`", rest)
    found = [re.split(r"\s{2,}|\s+#", piece.strip())[0] for line in code for piece in line.split("&&")]
    return [piece for piece in found if piece.startswith("likewise ")]


def check(line: str) -> None:
    """Raises where a command line would be refused before data are opened. Capitals stand for what one fills in."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    name, rest = words[0], [word for word in words[1:] if word != "..."]
    command = COMMANDS.commands[name]
    if not rest:
        return  # the command by its name
    given = command.make_context(name, [word.rstrip(".") if word.isupper() else word for word in rest]).params
    recipe = given.get("recipe") or (given.get("name") if name == "cat" else None)
    if recipe and not recipe.isupper() and not recipe.endswith(".yaml"):
        assert recipe in {*RECIPES, AUTO, *suites.names()}, recipe
        if edits := given.get("edits"):
            for edit in edits:  # each says something that the recipe does not
                assert RECIPES[recipe].edited(edit) != RECIPES[recipe], f"{edit} changes nothing"
            RECIPES[recipe].edited(*edits)
    if given.get("methods"):
        assert set(given["methods"].split(",")) <= set(RECIPES)
    if given.get("effort"):
        assert given["effort"] in LADDERS


WRITTEN = {page: lines_of(page) for page in ALL}


@pytest.mark.parametrize(
    ("page", "line"), [(page, line) for page, lines in WRITTEN.items() for line in lines], ids=lambda x: str(x)[-60:]
)
def test_command_lines_parse(page: Path, line: str) -> None:
    check(line)


def test_wrong_command_lines_are_seen() -> None:
    assert len(WRITTEN[METHODS / "README.md"]) > 10
    for wrong, why in {
        "likewise plan lorra": "lorra",
        "likewise train ft photos/ merge.alpa=1": "no field «alpa»",
        "likewise train 2sfs photos/ stages.0.fit.lr=2e-4": "lr=2e-4 changes nothing",
        "likewise adapt x --methods ln,nil": "nil",
        "likewise adapt x --effort nil": "nil",
        "likewise plan ln --nil": "No such option",
        "likewise export RUN": "Missing parameter",
    }.items():
        with pytest.raises(Exception, match=why):  # typer carries a click of its own, whose errors have no public name
            check(wrong)
    with pytest.raises(KeyError):
        check("likewise nil x")


def test_examples_in_python_run_up_to_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Encoder, data and training are stood in for; everything before is done."""
    asked: list[dict[str, Recipe]] = []

    class Data:
        from_folder = staticmethod(lambda *args, **rest: "data")

    def adapt(encoder: Any, data: Any, recipe: Any, out: str, **settings: Any) -> None:
        asked.append(ladder(recipe, "standard", 1.0))

    monkeypatch.setattr("likewise.api.adapt", adapt)
    monkeypatch.setattr("likewise.encoders.load", lambda name: name)
    monkeypatch.setattr("likewise.data.records.Dataset", Data)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (METHODS / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(block, {})
    (made,) = asked
    assert {"ln-then-probe", "ln-and-lora", "lora-half", "ft-lines", "ln-soup"} < set(made)
    assert made["ln-then-probe"].merge is not None  # as the pages say
    assert lw.recipes.RECIPES["kim-init-probe"].merge is None
    assert Recipe.read(tmp_path / "late-lora.yaml") == made["late-lora"]
