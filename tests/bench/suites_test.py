"""Suites of papers: points that are read lie on a path, expected numbers belong to cells, means and blocks add up."""

from __future__ import annotations

import itertools

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
        if cell.method.called == expected.method
        and (cell.dataset in expected.datasets and cell.shots in expected.shots)
        and expected.encoder in ("", cell.encoder)
    ]


def means_of(name: str) -> dict[tuple[str, tuple[str, ...], tuple[int, ...]], float]:
    """The expected means of a suite by method, data (in order) and shot counts."""
    _, suite = suites.load(name)
    means = (e for e in suite.expect if len(e.datasets) > 1)
    return {(e.method, tuple(sorted(e.datasets)), e.shots): e.value for e in means}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_point_that_the_table_reads_is_one_that_its_cells_have(name: str) -> None:
    _, suite = suites.load(name)
    for block in suite.blocks:
        for method in block.methods:
            assert {*method.points} <= {None, *path_of(block, method)}, method.called


@pytest.mark.parametrize("name", SHIPPED)
def test_every_expected_number_is_of_a_cell_a_split_and_a_measure_that_are_there(name: str) -> None:
    _, suite = suites.load(name)
    about = [(e.method, e.datasets, e.encoder, e.domains, e.metric, e.shots, e.alpha, e.verified) for e in suite.expect]
    assert len(set(about)) == len(about)
    for expected in suite.expect:
        found = cells_of(suite, expected)
        assert found, expected
        assert all(expected.alpha is None or expected.alpha in path_of(*one) for one in found), expected
        for dataset, domain in itertools.product(expected.datasets, expected.domains):
            asked = suite.episodes.get(dataset)
            if asked and domain == asked.of:
                assert expected.metric in map(asked.called, asked.shots), expected
            else:
                # a mean is of shifts by name: over those that happen to be on a disk it would be another number
                assert domain in {"id", *DATASETS[dataset].counts}, expected
                assert expected.metric in NAMED, expected
        assert 0 < expected.value < 100, expected


def test_the_published_means_of_wise_ft_are_those_of_its_five_shifts() -> None:
    _, suite = suites.load("wise-ft-alpha")
    for encoder, mean_of, shifts, count in (
        ("ViT-B-16", ("v2", "r", "sketch", "a", "objectnet"), ["a", "objectnet", "r", "sketch", "v2"], 8),
        ("ViT-B-32", ("v2", "r", "sketch", "a"), ["a", "r", "sketch", "v2"], 5),
    ):
        own = [e for e in suite.expect if e.encoder.endswith(f"{encoder}/openai")]
        alphas = {e.alpha for e in own}
        assert len(alphas) == count
        for alpha in alphas:
            values = {e.domains: e.value for e in own if e.alpha == alpha}
            mean = values.pop(mean_of)
            values.pop(("id",))
            assert sorted(domain for (domain,) in values) == shifts
            assert mean == pytest.approx(np.mean(list(values.values())), abs=0.1)


DISTANT = {"mnist", "eurosat", "dtd", "fmow", "iwildcam"}
"""Where Kim et al.'s CLIP, ViT-B/16, was right in less than 55 % without training (MNIST: in just 55 %)."""
SIMILAR = {"cifar-10", "cifar-100", "flowers-102", "camelyon17", "food-101"}
FEW_ONLY = {"dtd", "flowers-102"}
"""Too small for their high-data half, which has 256 and 512 pictures a class (CIFAR-100: 256 and 450)."""


def test_kims_table_is_the_mean_of_kims_quadrants() -> None:
    """Both were read in the paper; at many pictures CIFAR-100 has 450 where the others have 512."""
    quadrants, table = means_of("kim-figure-3") | means_of("kim-figure-5"), means_of("kim-table-1")
    few, many = (1, 2, 4, 8, 16), (256, 450, 512)
    checked = 0
    for (method, data, shots), value in table.items():
        far, near = DISTANT, SIMILAR
        if shots != few:
            far, near = far - FEW_ONLY, near - FEW_ONLY
        assert (set(data), shots in (few, many)) == (far | near, True)
        halves = [v for (m, d, k), v in quadrants.items()
                  if m == method and set(d) in (far, near) and (k == few) == (shots == few) and k != (0,)]  # fmt: skip
        if "joint" not in method:  # by quadrant they are not published
            assert len(halves) == 2
            assert value == pytest.approx(np.mean(halves), abs=0.11)
            checked += 1
    assert (checked, len(table)) == (16, 24)


def test_clip_loras_means_are_over_the_eleven_at_every_count() -> None:
    means = means_of("clip-lora")
    assert len({data for _, data, _ in means}) == 1
    assert all(len(data) == 11 for _, data, _ in means)
    assert len(means) == 9 * 5 + 1
    _, suite = suites.load("clip-lora")
    decides = {(e.method, e.shots) for e in suite.expect if e.verified}
    assert decides == {("zero-shot", (0,)), *(("clip-lora", (k,)) for k in (1, 2, 4, 8, 16))}


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
