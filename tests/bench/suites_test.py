"""Suites of papers: points that are read lie on a path, expected numbers belong to cells, means and blocks add up."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from likewise import suites
from likewise.datasets import DATASETS
from likewise.metrics import NAMED
from likewise.names import select
from likewise.suites import Block, Expect, Method, Suite

SHIPPED = suites.names()


def path_of(block: Block, method: Method) -> set[float]:
    """The alphas at which a cell of the block has numbers; none where the method has no path."""
    recipe = method.recipe(1.0, block.epochs, block.batch)
    return {float(alpha) for alpha in block.alphas} if recipe.merge else set()


def cells_of(suite: Suite, expected: Expect) -> list[tuple[Block, Method]]:
    return [
        (cell.block, cell.method)
        for cell in suite.cells
        if (cell.method.called, cell.dataset, cell.shots) == (expected.method, expected.dataset, expected.shots)
        and expected.encoder in ("", cell.encoder)
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_point_that_the_table_reads_is_one_that_its_cells_have(name: str) -> None:
    _, suite = suites.load(name)
    for block in suite.blocks:
        for method in block.methods:
            assert {*method.points} <= {None, *path_of(block, method)}, method.called


@pytest.mark.parametrize("name", SHIPPED)
def test_every_expected_number_is_of_a_cell_a_split_and_a_measure_that_are_there(name: str) -> None:
    _, suite = suites.load(name)
    about = [(e.method, e.dataset, e.encoder, e.domain, e.metric, e.shots, e.alpha, e.verified) for e in suite.expect]
    assert len(set(about)) == len(about)
    for expected in suite.expect:
        found = cells_of(suite, expected)
        assert found, expected
        assert all(expected.alpha is None or expected.alpha in path_of(*one) for one in found), expected
        asked = suite.episodes.get(expected.dataset)
        if asked and expected.domain == asked.of:
            assert expected.metric in map(asked.called, asked.shots), expected
        else:
            assert expected.domain in {"id", "ood-mean", *DATASETS[expected.dataset].counts}, expected
            assert expected.metric in NAMED, expected
        assert 0 < expected.value < 100, expected


def test_the_published_means_of_wise_ft_are_those_of_its_five_shifts() -> None:
    _, suite = suites.load("wise-ft-alpha")
    own = [e for e in suite.expect if e.encoder.endswith("ViT-B-16/openai")]
    alphas = [alpha for alpha, group in groupby(own, key=lambda e: e.alpha) for e in [*group] if e.domain == "ood-mean"]
    assert len(alphas) == 8
    for alpha in alphas:
        values = {e.domain: e.value for e in own if e.alpha == alpha}
        mean = values.pop("ood-mean")
        values.pop("id")
        assert sorted(values) == ["a", "objectnet", "r", "sketch", "v2"]
        assert mean == pytest.approx(np.mean(list(values.values())), abs=0.1)


def test_figure_7_trains_the_norms_of_the_last_blocks_and_no_others() -> None:
    """On the names of towers of 12 blocks, listed here by hand."""
    parts = ("norm1.weight", "norm1.bias", "qkv.weight", "norm2.weight", "norm2.bias", "up.bias")
    names = [f"{tower}.{block}.{part}" for tower in ("image", "text") for block in range(12) for part in parts]
    names += ["image.norm_pre.weight", "image.norm_post.weight", "text.norm_post.bias", "image.projection"]
    _, suite = suites.load("kim-figure-7")
    methods = suite.blocks[0].methods
    assert [m.called for m in methods] == [f"ln-last-{k}" for k in (2, 4, 6, 8, 10, 12)]
    for method in methods:
        last = int(method.called.removeprefix("ln-last-"))
        own = {f"{tower}.{block}.norm{i}.{kind}" for tower in ("image", "text") for block in range(12 - last, 12)
               for i in (1, 2) for kind in ("weight", "bias")}  # fmt: skip
        (stage,) = method.recipe(1.0).stages
        assert set(select(stage.trains, names)) == own | {"image.norm_post.weight", "text.norm_post.bias"}


@pytest.mark.parametrize(
    ("name", "method", "steps", "warm"),
    [("imagenet", "flyp", 24_830, 500), ("iwildcam", "flyp", 10_160, 500), ("fmow", "flyp", 6_020, 500)],
)
def test_flyps_lengths_are_those_of_its_readme(name: str, method: str, steps: int, warm: int) -> None:
    """Steps by epochs and batches over the published counts; the README's 500 steps of warm-up, within one."""
    _, suite = suites.load("flyp-shifts")
    for block in suite.blocks:
        for own in block.methods:
            if (own.called, block.datasets) == (method, (name,)):
                fit = own.recipe(1.0, block.epochs, block.batch).stages[-1].fit
                assert fit is not None
                assert fit.kind == "adamw"
                assert fit.steps(DATASETS[name].counts["train"], 1) == steps
                assert fit.warmup * steps == pytest.approx(warm, abs=1)
                return
    pytest.fail(f"no {method} on {name}")
