"""The page says what the files say: every number by another road, and the page stands without its optional parts."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from PIL import Image
from synthetic_run import OOD, make_run

from likewise.errors import DataError, UsageError
from likewise.report import analysis, table_markdown, write_report
from likewise.report.pictures import Album
from likewise.report.read import MEAN, SELECT, read_run
from likewise.report.svg import slots, spread, ticks

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Balanced tags, and what a reader who sees nothing is told."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.ids: Counter[str] = Counter()
        self.targets: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> left open" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.seen[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img" and not given.get("alt"):
            self.faults.append("img without alt")
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-label")):
            self.faults.append("svg without words")
        for name in ("src", "href"):
            where = given.get(name) or ""
            if where and not where.startswith(("data:image/", "#")):
                self.faults.append(f"loads {where}")
            if where.startswith("#"):
                self.targets.append(where[1:])
        if given.get("id"):
            self.ids[str(given["id"])] += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def checked(path: Path) -> str:
    """The page's text, after everything that must hold for any page."""
    text = path.read_text()
    page = Page(text)
    assert page.faults == []
    assert set(page.targets) <= set(page.ids)
    assert max(page.ids.values()) == 1
    assert "<script" not in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:http|//)|url\(\s*[\"']?http|@import", text)
    assert not re.search(r">\s*(?:nan|None|inf)\b", text), "a missing number is shown as such"
    assert "nan" not in "".join(re.findall(r'(?:points|cx|cy|x|y|x1|y1)="([^"]*)"', text))
    assert len(text) < 3_000_000
    return text


def seen(text: str) -> str:
    """The words of the page in order, tags and repeated space removed."""
    body = re.sub(r"<style>.*?</style>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("full") / "photos-01", size=0.5)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return checked(write_report([run], run / "report.html"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_run(tmp_path / "small", classes=8, size=0.08, ood=OOD[:2], methods=("zero-shot", "knn", "flyp"))


def kept(run: Path, method: str, domain: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = safetensors.numpy.load_file(run / "methods" / method / "predictions" / f"{domain}.safetensors")
    return t["logits_NC"].astype(float), t["labels_N"], t["index_N"]


def chosen(run: Path) -> str:
    return str(json.loads((run / "results.json").read_text())["chosen"]["method"])


def share_right(logits_NC: np.ndarray, labels_N: np.ndarray) -> float:
    return sum(bool(np.argmax(row) == label) for row, label in zip(logits_NC, labels_N, strict=True)) / len(labels_N)


def test_verdict_and_table_show_the_accuracy_of_the_stored_answers(run: Path, page: str) -> None:
    best, words = chosen(run), seen(page)
    table = words[words.index("The methods compared") :]
    for domain in ("id", *OOD):
        value = 100 * share_right(*kept(run, best, domain)[:2])
        name = "in distribution" if domain == "id" else domain
        row = re.search(rf"{name} [\d,]+ pictures ([\d.]+) ([\d.]+) ([\d.]+)–([\d.]+) ([+−]?[\d.]+)", words)
        assert row, f"no verdict row for {domain}"
        assert float(row[2]) == pytest.approx(value, abs=0.051)
        assert float(row[3]) < value < float(row[4])
        base = 100 * share_right(*kept(run, "zero-shot", domain)[:2])
        assert float(row[1]) == pytest.approx(base, abs=0.051)
        assert float(row[5].replace("−", "-")) == pytest.approx(value - base, abs=0.051)
    mean = np.mean([100 * share_right(*kept(run, best, domain)[:2]) for domain in OOD])
    assert re.search(rf"OOD mean [\d.]+ {mean:.1f} ", words)
    assert f"{100 * share_right(*kept(run, best, 'id')[:2]):.1f}" in table


def test_change_interval_is_that_of_paired_differences(run: Path) -> None:
    best = chosen(run)
    for domain in ("id", "emoji"):
        right = {}
        for method in (best, "zero-shot"):
            logits_NC, labels_N, index_N = kept(run, method, domain)
            right[method] = {
                int(i): float(row.argmax() == y) for i, row, y in zip(index_N, logits_NC, labels_N, strict=True)
            }
        differences = [right[best][i] - right["zero-shot"][i] for i in sorted(right[best])]
        mean = sum(differences) / len(differences)
        error = math.sqrt(sum((d - mean) ** 2 for d in differences)) / len(differences)
        found = analysis.change(read_run(run), domain)
        assert found.value == pytest.approx(mean, abs=1e-9)
        assert (found.low, found.high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=1e-5)


def test_reliability_shows_the_calibration_error_of_a_loop(run: Path, page: str) -> None:
    def by_loop(domains: tuple[str, ...]) -> float:
        bins: dict[int, list[tuple[float, float]]] = {}
        for domain in domains:
            for row, label in zip(*kept(run, chosen(run), domain)[:2], strict=True):
                p = np.exp(row - row.max())
                p /= p.sum()
                bins.setdefault(min(14, int(p.max() * 15)), []).append((p.max(), float(p.argmax() == label)))
        n = sum(map(len, bins.values()))
        return sum(abs(sum(c for c, _ in b) - sum(h for _, h in b)) for b in bins.values()) / n

    shown = re.findall(r"ECE ([\d.]+) % over ([\d,]+) pictures", seen(page))
    assert [float(e) for e, _ in shown] == pytest.approx([100 * by_loop(("id",)), 100 * by_loop(OOD)], abs=0.051)


def test_class_table_and_confusions_count_what_a_loop_counts(run: Path, page: str) -> None:
    hits, total, wrong = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
    for domain in ("id", *OOD):
        for row, label in zip(*kept(run, chosen(run), domain)[:2], strict=True):
            total[int(label)] += 1
            hits[int(label)] += int(row.argmax()) == label
            wrong[int(label), int(row.argmax())] += int(row.argmax()) != label
    read = read_run(run)
    answers = analysis.reported(read)
    rows = analysis.class_rows(read, answers)
    assert {r.label: (r.id_hits + r.ood_hits, r.id_n + r.ood_n) for r in rows} == {
        c: (hits[c], total[c]) for c in total
    }
    assert [r.recall for r in rows] == sorted(r.recall for r in rows)
    manifest = pq.read_table(run / "data" / "split.parquet").to_pylist()
    for row in rows:
        there = [m for m in manifest if m["split"] == "train" and m["label"] == read.folders[row.label]]
        assert row.train == len(there)
        if row.mistaken is not None:
            assert row.mistakes == wrong[row.label, row.mistaken] == max(wrong[row.label, c] for c in range(90))
    for pair in analysis.confusions(answers):
        assert (pair.n, pair.of) == (wrong[pair.true, pair.read], total[pair.true])
        assert f"{read.names[pair.true]} → {read.names[pair.read]} {pair.n} of {pair.of}" in seen(page)
    assert analysis.confusions(answers)[0].n == max(wrong.values())


def test_offenders_are_the_least_believed_labels(run: Path, page: str) -> None:
    logits_NC, labels_N, index_N = kept(run, chosen(run), "select")
    prob_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    loss = sorted(
        (float(prob_NC[i, y]), int(index_N[i]), i) for i, y in enumerate(labels_N) if prob_NC[i].argmax() != y
    )
    found = analysis.offenders(read_run(run))
    assert [o.index for o in found] == [index for _, index, _ in loss[: len(found)]]
    p, _, i = loss[0]
    names = json.loads((run / "data" / "classes.json").read_text())["names"]
    own = f"{100 * p:.1f}" if p >= 5e-4 else "<0.1"
    said = f"{names[labels_N[i]]} → {names[prob_NC[i].argmax()]} {100 * prob_NC[i].max():.0f} % sure, label {own} %"
    assert said in seen(page)


def test_pictures_follow_the_manifest_through_the_row_numbers(small: Path) -> None:
    """Every picture gets a colour of its own; the first offender's thumbnail must have the colour of its row."""
    table = pq.read_table(small / "data" / "split.parquet").to_pylist()
    for i, row in enumerate(table):
        row.update(path=f"p{i}.png", row=-1)
        Image.new("RGB", (8, 8), (i % 250, i // 250, 9)).save(small / f"p{i}.png")
    pq.write_table(pa.Table.from_pylist(table), small / "data" / "split.parquet")
    album = Album.of(read_run(small))
    assert album.disagreeing == []
    places = [i for i, row in enumerate(table) if row["split"] == "select"]
    for index in (0, 3, len(places) - 1):
        uri = album.thumb(SELECT, index)
        assert uri
        pixel = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB").getpixel((4, 4))
        assert pixel == (places[index] % 250, places[index] // 250, 9)


def test_alpha_of_each_method_follows_the_one_standard_error_rule(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    read = read_run(run)
    for name, entry in results["methods"].items():
        rows = [r for r in results["rows"] if (r["method"], r["split"], r["metric"]) == (name, "select", "accuracy")]
        top = max(r["value"] for r in rows)
        soft = (top * rows[0]["n"] + 2) / (rows[0]["n"] + 4)
        bar = top - math.sqrt(soft * (1 - soft) / (rows[0]["n"] + 4))
        expected = min(r["alpha"] for r in rows if r["value"] >= bar) if entry["alphas"] else None
        assert read.methods[name].alpha == expected
    results["methods"]["flyp"]["alpha"] = 0.9  # a run that says it is believed
    results["chosen"] = {"method": "ln", "alpha": 0.3, "why": ""}
    (run.parent / "said").mkdir(exist_ok=True)
    (run.parent / "said" / "results.json").write_text(json.dumps(results))
    said = read_run(run.parent / "said")
    assert said.methods["flyp"].alpha == 0.9
    assert said.methods["ln"].alpha == 0.3


def test_best_of_each_column_is_bold_and_the_chosen_row_is_marked(run: Path, page: str) -> None:
    lines = [line.split("|")[1:-1] for line in table_markdown(run).splitlines()]
    header, body = [c.strip() for c in lines[0]], lines[2:]
    for column, title in enumerate(header[1:-2], start=1):
        values = [float(re.sub(r"\*|\(.*", "", line[column])) for line in body]
        best = min(values) if title.startswith("ECE") else max(values)
        assert ["**" in line[column] for line in body] == [v == best for v in values], title
    assert sum("(chosen)" in line[0] for line in body) == 1
    assert page.count('<tr class="chosen">') == 1
    assert sum("α\u202f=\u202f1 " in line[0] for line in body) >= 3  # tuned methods, without interpolation


def test_markdown_beside_the_page(run: Path, page: str) -> None:
    text = (run / "report.md").read_text()
    assert table_markdown(run) in text
    assert f"in distribution: {100 * share_right(*kept(run, chosen(run), 'id')[:2]):.1f} %" in text


def test_page_has_every_section(page: str) -> None:
    words = seen(page)
    for part in (
        "What was traded",
        "How it was chosen",
        "read once, after the choice, on 4 March 2025, 10:20 UTC",
        "The methods compared",
        "In distribution against out",
        "Along α",
        "Can its confidence be believed?",
        "The other 78 classes",
        "The most confused pairs",
        "label looks doubtful",
        "What the domains look like",
        "probe, then tune",
        "warning D10",
        "likewise adapt photos/",
        "report, after the choice",
        "kNN has no α path: it answers with neighbours",
        "Next steps",
    ):
        assert part in words, part
    assert page.count("<img") > 100
    assert len(re.findall(r"<h2>", page)) == 12
    assert len(re.findall(r"<li><strong>[^<]+</strong> [^<]{20,}</li>", page[page.index("<h2>Next steps</h2>") :])) >= 1


def cut(*names: str) -> Callable[[Path], None]:
    def remove(run: Path) -> None:
        for name in names:
            target = run / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return remove


def break_journal(run: Path) -> None:
    path = run / "methods" / "flyp" / "journal.jsonl"
    path.write_text(path.read_text()[:2000])
    with open(path, "a") as file:
        file.write('\n{"stage": "tune", "step": 99, "lo')


def lose_pictures(run: Path) -> None:
    cut("data/one.png", "data/images.parquet")(run)


def choose_baseline(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    results["chosen"] = {"method": "zero-shot", "alpha": None, "why": "Nothing beat it."}
    (run / "results.json").write_text(json.dumps(results))


def forget_intervals(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"]:
        row.update(low=None, high=None)
    (run / "results.json").write_text(json.dumps(results))


def forget_rows(run: Path) -> None:
    """One method was not measured on one domain, nor its calibration anywhere."""
    results = json.loads((run / "results.json").read_text())
    gone = {("knn", "solid"), ("knn", "ood-mean")}
    rows = [r for r in results["rows"] if (r["method"], r["domain"]) not in gone]
    results["rows"] = [r for r in rows if (r["method"], r["metric"]) != ("flyp", "ece")]
    (run / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (forget_rows, "In distribution against out"),
        (cut("methods/flyp/journal.jsonl"), "Next steps"),
        (break_journal, "Training"),
        (cut("methods"), "The methods compared"),
        (cut("methods/zero-shot/predictions"), "The methods compared"),
        (cut("data/split.parquet"), "Class by class"),
        (cut("data/classes.json"), "The methods compared"),
        (cut("data/audit.json"), "The audit found nothing to mend."),
        (cut("data/access.json"), "holds no log of readings"),
        (cut("config.yaml", "command.txt", "environment.json"), "To do it again"),
        (cut("data"), "The methods compared"),
        (lose_pictures, "could not be opened"),
        (choose_baseline, "No method earned its training"),
        (forget_intervals, "The methods compared"),
    ],
)
def test_page_stands_without_an_optional_piece(small: Path, harm: Callable[[Path], None], says: str) -> None:
    harm(small)
    assert says in seen(checked(write_report([small], small / "report.html")))


@pytest.mark.parametrize(
    ("ood", "methods"),
    [
        ((), ("zero-shot", "knn")),
        ((), ("zero-shot", "flyp")),
        (("solid",), ("zero-shot", "knn", "ln")),
        ((), ("zero-shot",)),
    ],
)
def test_page_stands_with_few_domains_and_methods(
    tmp_path: Path, ood: tuple[str, ...], methods: tuple[str, ...]
) -> None:
    run = make_run(tmp_path / "few", classes=5, size=0.05, ood=ood, methods=methods)
    text = seen(checked(write_report([run], tmp_path)))
    assert ("--ood NAME=FOLDER" in text) == (not ood)
    assert ("In distribution against out" in text) == bool(ood)
    assert (tmp_path / "report.md").exists()


def test_runs_are_compared_on_what_they_share(run: Path, small: Path) -> None:
    text = seen(checked(write_report([run, small], small / "two.html")))
    table = text[text.index("side by side") : text.index("is the model this run recommends")]
    assert "mean of these 2 OOD" in table
    assert "pixel" not in table
    for folder in (run, small):
        values = [share_right(*kept(folder, chosen(folder), d)[:2]) for d in OOD[:2]]
        assert f" {100 * sum(values) / 2:.1f} " in table


def test_words_from_the_run_are_escaped(small: Path) -> None:
    results = json.loads((small / "results.json").read_text())
    results["methods"]["flyp"]["title"] = '<script>alert("x")</script>'
    (small / "results.json").write_text(json.dumps(results))
    classes = json.loads((small / "data" / "classes.json").read_text())
    classes["names"][0] = "<b>\"'&"
    (small / "data" / "classes.json").write_text(json.dumps(classes))
    assert '<script>alert("x")</script>' in seen(checked(write_report([small], small / "report.html")))


def test_manifest_that_names_other_classes_shows_no_pictures(small: Path) -> None:
    path = small / "data" / "split.parquet"
    table = pq.read_table(path)
    labels = table["label"].to_pylist()
    table = table.set_column(table.schema.get_field_index("label"), "label", [[*labels[1:], labels[0]]])
    pq.write_table(table, path)
    assert "are left out: data/split.parquet and the stored predictions name different" in seen(
        checked(write_report([small], small / "report.html"))
    )


def test_more_than_one_reading_is_said(small: Path) -> None:
    path = small / "data" / "access.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    text = seen(checked(write_report([small], small / "report.html")))
    assert "read 2 times" in text
    assert "Set fresh pictures aside." in text


def damaged() -> Iterator[tuple[Callable[[Path], object], str]]:
    yield cut("results.json"), r"small holds no results.json.*has not finished.*--resume"
    yield cut("results.json", "config.yaml"), r"small holds no results.json.*not a run folder: pass"
    yield (
        lambda run: (run / "results.json").write_text('{"rows": []}'),
        "results.json lacks or garbles 'chosen'",
    )
    yield lambda run: (run / "results.json").write_text("{"), "not readable JSON"
    yield lambda run: (run / "data/split.parquet").write_text("x"), "not a readable parquet"
    yield (
        lambda run: (run / "data/classes.json").write_text('{"names": ["a"], "folders": ["a"]}'),
        "lists 1 classes, but methods/.*safetensors answers with 8",
    )


@pytest.mark.parametrize(("harm", "says"), list(damaged()))
def test_damage_is_named(small: Path, harm: Callable[[Path], object], says: str) -> None:
    harm(small)
    with pytest.raises(DataError, match=says):
        write_report([small], small / "report.html")
    assert not (small / "report.html").exists()


def test_missing_folder_and_no_folder(small: Path) -> None:
    with pytest.raises(DataError, match=r"no run folder.*Did you mean small"):
        write_report([small.parent / "smal"], small / "report.html")
    with pytest.raises(UsageError, match="at least one"):
        write_report([], small / "report.html")


def test_colours_are_stable_and_distinct() -> None:
    alone, among = slots(["flyp"]), slots(["zero-shot", "knn", "linear", "ln", "lp-ft", "flyp", "mine", "yours"])
    assert alone["flyp"] == among["flyp"]
    assert among["zero-shot"] == 0
    assert len(set(among.values())) == len(among)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.13, 0.61, 5) == [0.2, 0.3, 0.4, 0.5, 0.6]
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_spread_keeps_apart_and_inside() -> None:
    at = spread([50, 51, 52, 99], 10, 0, 100)
    assert all(b - a >= 10 - 1e-9 for a, b in zip(sorted(at), sorted(at)[1:], strict=False))
    assert min(at) >= 0
    assert max(at) <= 100
    assert spread([1, 2, 3], 10, 0, 100) == [1, 11, 21]


def test_mean_change_pools_the_domains(run: Path) -> None:
    read = read_run(run)
    parts = [analysis.change(read, d) for d in OOD]
    mean = analysis.change(read, MEAN)
    assert mean.value == pytest.approx(np.mean([p.value for p in parts]), abs=1e-9)
    assert mean.high - mean.value == pytest.approx(np.linalg.norm([p.high - p.value for p in parts]) / 6, abs=1e-9)
