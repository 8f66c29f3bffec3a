"""Why fine-tuning from a random head can lose what was pretrained: Kumar et al.'s linear network, and icon-clip.

    python examples/feature_distortion.py [--seeds 3] [--out runs/feature-distortion] [--write docs/feature-distortion.md]

Kumar et al. 2022 (arXiv:2202.10054), sections 3 and 4. First their two-layer linear network, y = v' B x, followed along
gradient flow for 20 draws: seconds. Then the same measurement on icon-clip with IconShift, about two minutes of
one core for a seed: each is two run folders and a `drift.json`, and only missing ones run. Writes the page, keeping what
a person wrote below its marker, and draws docs/images/feature-distortion.svg beside it.

Departs: four heads to begin from instead of one random one. Recipes have heads at zero and heads of class texts, and a
head of random direction at a trained head's length is made by dealing the texts to the wrong classes, by key.
"""

# N pictures, S draws or seeds, T moments.

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import linear_network as linear
import numpy as np
import torch
import typer
from linear_network import Linear, said, table

import likewise as lw
from likewise import files
from likewise.cli.terminal import Bars
from likewise.data.records import ClassTable, Dataset
from likewise.datasets import DATASETS
from likewise.encoder import Encoder
from likewise.heads import LinearHead
from likewise.keys import key_rng
from likewise.metrics import correct, half_width
from likewise.predict import Predictions, features
from likewise.recipe import Lbfgs
from likewise.recipes import get
from likewise.report.svg import Canvas, spread
from likewise.run.results import read_report
from likewise.run.tuned import standing, stored
from likewise.solve import lbfgs_path

# -- icon-clip --------------------------------------------------------------------------------------------------

MOST = {"train": 640, "select": 150, "id": 200, **dict.fromkeys(("solid", "colour", "pixel", "hand-drawn", "emoji", "engraved"), 100)}  # fmt: skip
EPOCHS, BATCH = 3, 32
TUNED = {
    "ft-dealt": "FT, dealt texts",
    "ft-zeros": "FT, zeros",
    "ft": "FT, own texts",
    "lp-ft": "LP-FT",
}
"""The starts, worst first."""
TITLES = {"zero-shot": "zero-shot", "linear": "LP", **TUNED}
OOD = tuple(MOST)[3:]


def recipes(rate_scale: float) -> dict[str, lw.Recipe]:
    """The library's own `ft` and `lp-ft` at icon-clip's rates, shorter; and `ft` from a head at zero."""
    short = f"epochs={EPOCHS}", f"batch={BATCH}"
    ft = get("ft", rate_scale).edited(*(f"stages.0.fit.{edit}" for edit in short))
    return {
        "linear": get("linear"),
        "ft-zeros": ft.edited("stages.0.head.start=zeros"),
        "lp-ft": get("lp-ft", rate_scale).edited(*(f"stages.1.fit.{edit}" for edit in short)),
        "ft": ft,
    }


def dealt(data: Dataset, seed: int) -> Dataset:
    """The data with every class under another class's name, so that its text head is of the right length and wrong."""
    names = data.classes.names
    order = key_rng(seed, "dealt", data.name).permutation(len(names))
    out = copy.copy(data)
    out.classes = ClassTable(names=tuple(names[i] for i in order), folders=data.classes.folders)
    return out


def measured(encoder: Encoder, data: Dataset, own: lw.Run, wrong: lw.Run) -> dict[str, dict]:
    """Of each method its loss at the end, and by split a number for each picture: whether it is answered rightly, how far
    its features moved, and whether a probe refitted on the moved features answers it rightly."""
    report = read_report(own.path, data, "features before and after, once all had been trained")
    splits = {"train": data.train, "select": data.select, **report}
    fit = Lbfgs(path=(own.results["methods"]["linear"]["notes"]["C"],))
    labels_N, found = torch.from_numpy(data.train.labels_N), {}
    with tempfile.TemporaryDirectory() as cache:

        def read() -> dict[str, torch.Tensor]:
            return {name: features(encoder, split, cache=Path(cache)) for name, split in splits.items()}

        zero = read()
        for method in TITLES:
            folder = (wrong if method == "ft-dealt" else own).path / "methods" / method
            told = {name: Predictions.read(folder / "predictions" / f"{name}.safetensors") for name in [*splits][1:]}
            found[method] = {"accuracy": {k: correct(p.logits_NC, p.labels_N).tolist() for k, p in told.items()}}
            if method not in TUNED:
                continue
            with standing(stored(folder, encoder), encoder, 1.0):
                after = read()
            head = LinearHead(torch.zeros(len(data.classes), zero["id"].shape[1]), torch.zeros(len(data.classes)))
            (solved,) = lbfgs_path(after["train"], labels_N, head, fit)
            head = LinearHead(solved.weight_CD, solved.bias_C)
            journal = (folder / "journal.jsonl").read_text().splitlines()
            found[method] |= {
                "loss": float(np.mean([json.loads(line)["loss"] for line in journal[-10:]])),
                "drift": {k: ((f - zero[k]).norm(dim=1) / zero[k].norm(dim=1)).tolist() for k, f in after.items()},
                "refit": {k: correct(head(f).detach().numpy(), splits[k].labels_N).tolist() for k, f in after.items()},
            }
    return found


def icon_seed(out: Path, seed: int, watch: Bars) -> dict:
    """What is `measured` of a seed, and its seconds; run where it is missing."""
    folder = out / f"seed-{seed}"
    if not (folder / "drift.json").exists():
        began = time.process_time()
        encoder, data = lw.load("icon-clip"), DATASETS["iconshift"]().thinned(MOST, "feature-distortion")
        mine = recipes(encoder.rate_scale)
        how = {"seed": seed, "alphas": (1.0,), "resume": True, "watch": watch}
        own = lw.adapt(encoder, data, mine, folder / "own", **how)
        wrong = lw.adapt(encoder, dealt(data, seed), {"ft-dealt": mine["ft"]}, folder / "dealt", **how)
        found = measured(encoder, data, own, wrong)
        files.write_json(folder / "drift.json", {"methods": found, "seconds": time.process_time() - began})
    return files.read_json(folder / "drift.json")


# -- numbers ----------------------------------------------------------------------------------------------------

Number = tuple[str, str, str]
"""A method, what is measured of it, and a split; "ood" is all styles, whose mean is unweighted, for they are of one size."""


def by_picture(seeds: Sequence[dict], method: str, what: str, split: str) -> np.ndarray:
    """x_SN, in percent: a number for each seed and picture."""
    names = OOD if split == "ood" else (split,)
    each = [seed["methods"][method][what] for seed in seeds]
    return 100 * np.array([np.concatenate([found[name] for name in names]) for found in each], dtype=float)


def over(seeds: Sequence[dict], method: str, what: str, split: str) -> np.ndarray:
    """Their means: x_S, a number for each seed."""
    return by_picture(seeds, method, what, split).mean(1)


def half_over_pictures(x_N: np.ndarray) -> float:
    """Half of the 95 % t-interval over pictures of the mean of differences, two made-up pictures among them.

    They differ as much as the picture that differs most, one to each side. Else a few pictures that all differ one way
    would look certain; so five do not suffice and six do, as by the exact sign test.
    """
    most = np.abs(x_N).max()
    return half_width([*x_N, most, -most])


def difference(seeds: Sequence[dict], more: Number, less: Number) -> tuple[np.ndarray, float]:
    """x_S, more - less for each seed, and half of the 95 % interval over pictures, paired where both have the same."""
    more_SN, less_SN = by_picture(seeds, *more), by_picture(seeds, *less)
    if more[2] == less[2]:
        half = half_over_pictures((more_SN - less_SN).mean(0))
    else:
        half = float(np.hypot(*(half_over_pictures(x_SN.mean(0) - x_SN.mean()) for x_SN in (more_SN, less_SN))))
    return more_SN.mean(1) - less_SN.mean(1), half


def verdict(x_S: np.ndarray, over_pictures: float) -> str:
    """Told only where both intervals, over seeds and over pictures, are on one side of zero."""
    mean, half = x_S.mean(), max(half_width(x_S), over_pictures)
    return "holds" if mean > half else "reversed" if -mean > half else "cannot be told"


# -- the picture ------------------------------------------------------------------------------------------------

COLOURS = {
    "ft": "#b58900", "ft-zeros": "#d9631e", "ft-dealt": "#8c2d04", "lp-ft": "#a03f86", "linear": "#0068b0", "zero-shot": "#6f7782",
}  # fmt: skip
CURVES = {"ft": "#c24a12", "lp": "#0068b0", "lp-ft": "#a03f86"}
WIDTH, HEIGHT = 1020, 690
STYLE = """text{font:12px 'Source Sans 3','Segoe UI','Helvetica Neue','DejaVu Sans',Arial,sans-serif;fill:#1d2430}
.tick{font-size:11px;fill:#5a6472}.title{font-weight:600;font-size:13px}.note{fill:#5a6472;font-size:11px}
.end{text-anchor:end}.middle{text-anchor:middle}.label{font-weight:600;fill:currentColor}
.grid{stroke:#e4e1d9}.line{fill:none;stroke:currentColor;stroke-width:2}.broken{stroke-dasharray:5 4}
.band{fill:currentColor;opacity:.18}.interval{stroke:currentColor;stroke-width:1.6;opacity:.6;fill:none}
.dot{fill:currentColor}.split{stroke:#707986;stroke-dasharray:2 3;fill:none}"""


class Panel(Canvas):
    """A canvas at a place of the picture; its marks bring their colours, since an image has no page to take them from."""

    place: tuple[float, float] = (0, 0)

    @contextlib.contextmanager
    def tinted(self, colour: str) -> Iterator[None]:
        """What is drawn inside is in this colour."""
        self.parts.append(f'<g style="color:{colour}">')
        yield
        self.parts.append("</g>")

    def name(self, words: str, y: float) -> None:
        """A label right of the window."""
        self.text(self.width - self.margin[1] + 6, y, words, "label")

    def whole(self) -> str:
        lines = "\n".join(self.parts)
        return f'<g transform="translate({self.place[0]:g} {self.place[1]:g})">\n{lines}\n</g>'


def curve(panel: Panel, x: list[float], y_TS: np.ndarray, kind: str = "line") -> None:
    """Mean and 95 % band over draws, cut at the window."""
    mean, half = y_TS.mean(1), np.array([half_width(row) for row in y_TS])
    lower, upper, mean = ((mean + side * half).clip(*panel.y_range) for side in (-1, 1, 0))
    panel.area([*zip(x, upper), *zip(reversed(x), reversed(lower))], "band")
    end = int((mean > panel.y_range[0]).sum()) + 1 if mean[-1] < mean[0] else len(x)  # one that leaves does not go on
    panel.line(list(zip(x, mean))[:end], kind)


def curves(told: Linear) -> list[Panel]:
    """Errors in and out of distribution and the change of the features, over the logarithm of time."""
    x = [float(np.log10(at)) for at in told.times[1:]]
    found, wide, out = told.by_off[linear.SHOWN], WIDTH / 3, []
    for i, (title, key, low, high, apart) in enumerate((
        ("Error in distribution", "id", -4.0, 0.2, 1.0), ("Error out of distribution", "ood", 0.0, 1.6, 0.4),
        ("Change of the features", "inside", 0.0, 0.8, 0.2),
    )):  # fmt: skip
        panel = Panel(wide, 250, (34, 72 if key == "inside" else 50, 34, 52), (x[0], x[-1]), (low, high))
        panel.place = (i * wide, 52)
        panel.text(8, 16, title, "title")
        y_ticks = [(v, f"{10.0**v if key == 'id' else v:g}") for v in np.arange(low, high + 0.01, apart).round(6)]
        panel.axes([(p, f"{10.0**p:g}") for p in range(-2, 3) if x[0] <= p <= x[-1]], y_ticks)
        panel.text(panel.width / 2, panel.height - 4, "time of gradient flow", "note middle")
        lines = [(linear.NAMES[way], CURVES[way], found[way][key][1:], "line") for way in linear.WAYS]
        if key == "id":
            lines = [(name, colour, np.log10(y_TS.clip(1e-9)), kind) for name, colour, y_TS, kind in lines]
        if key == "inside":
            lines = [(f"{name}, in", *rest) for name, *rest in lines if name != "LP"]
            lines.append(("all, out", "#1d2430", found["ft"]["outside"][1:], "line broken"))
        ends = [panel.y(float(np.clip(y_TS[-1].mean(), low, high))) + 4 for _, _, y_TS, _ in lines]
        for (name, colour, y_TS, kind), y in zip(lines, spread(ends, 13, 40, panel.height - 34), strict=True):
            with panel.tinted(colour):
                curve(panel, x, y_TS, kind)
                panel.name(name, y)
        out.append(panel)
    return out


def clouds(seeds: Sequence[dict]) -> list[Panel]:
    """Drift and accuracy on icon-clip: a column for each split, a dot for each method."""
    out = []
    for i, (what, title, methods, high) in enumerate((
        ("drift", "Mean relative change of the features, percent", [*TUNED], 160.0),
        ("accuracy", "Accuracy, percent", [*TITLES], 100.0),
    )):  # fmt: skip
        columns = [*(["train"] if what == "drift" else []), "select", "id", *OOD]
        panel = Panel(WIDTH / 2, 310, (34, 106, 46, 34), (-0.5, len(columns) - 0.5), (0.0, high))
        panel.place = (i * WIDTH / 2, 368)
        panel.text(8, 16, title, "title")
        panel.axes([], [(v, f"{v:g}") for v in np.arange(0, high + 1, 20)])
        for c, name in enumerate(columns):
            panel.text(
                panel.x(c), panel.height - (30 if c % 2 == 0 else 16), name, "tick middle"
            )  # long names: two rows
        border = columns.index("id") + 0.5
        panel.line([(border, 0), (border, high)], "split")
        ends = spread([panel.y(over(seeds, m, what, OOD[-1]).mean()) + 4 for m in methods], 14, 40, panel.height - 46)
        for m, (method, y) in enumerate(zip(methods, ends, strict=True)):
            with panel.tinted(COLOURS[method]):
                panel.name(TITLES[method], y)
                for c, name in enumerate(columns):
                    values, at = over(seeds, method, what, name), c + 0.7 * ((m + 0.5) / len(methods) - 0.5)
                    mean, half = float(values.mean()), half_width(values)
                    panel.line([(at, max(0.0, mean - half)), (at, min(high, mean + half))], "interval")
                    panel.dot((at, mean), 3, "dot")
        out.append(panel)
    return out


def picture(told: Linear, seeds: Sequence[dict]) -> str:
    """The whole drawing as SVG, on white, in colours that need no style sheet of a page."""
    head = Panel(WIDTH, HEIGHT)
    off = told.gaps[linear.SHOWN].mean()
    head.text(
        8, 22, f"Linear network, {linear.DRAWS} draws; pretrained features {off:.2f} away from the true ones", "title"
    )
    in_out = "in, out: within and across the span of the training points"
    head.text(8, 40, f"worst cases over inputs of length 1; bands are 95 % intervals over draws; {in_out}", "note")
    head.text(
        8, 334, f"icon-clip, {len(seeds)} seeds with 95 % intervals, by the head that training begins from", "title"
    )
    told_of = "left of the dotted line outline drawings, the style trained on; right of it other styles"
    head.text(8, 352, f"{told_of}; LP and zero-shot leave the features as they are", "note")
    alt = "Errors and feature change of the linear network over time; drift and accuracy of icon-clip by method."
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    body = "\n".join(panel.whole() for panel in (head, *curves(told), *clouds(seeds)))
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{alt}">\n<style>{STYLE}</style>'
    return f'{start}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'


# -- the page ---------------------------------------------------------------------------------------------------


def icon_table(seeds: Sequence[dict]) -> str:
    rows = []
    for method, title in TITLES.items():
        tuned = method in TUNED
        row = [title, said(np.array([seed["methods"][method]["loss"] for seed in seeds]), 2) if tuned else ""]
        row += [
            said(over(seeds, method, "drift", split)) if tuned else "0" for split in ("train", "select", "id", "ood")
        ]
        row += [said(over(seeds, method, "accuracy", split)) for split in ("id", "ood")]
        rows.append([*row, *(said(over(seeds, method, "refit", split)) if tuned else "" for split in ("id", "ood"))])
    head = "drift: train | select | id | OOD mean | accuracy: id | OOD mean | probe refitted: id | OOD mean"
    return table(f"method | loss at the end | {head}", rows)


def icon_claims(seeds: Sequence[dict]) -> str:
    """Each claim is that the first number is the larger."""
    claims: list[tuple[str, Number, Number]] = []
    plain = tuple(TUNED)[:3]
    claims += [
        (f"{TITLES[m]} changes features more than LP-FT, ID", (m, "drift", "id"), ("lp-ft", "drift", "id"))
        for m in plain
    ]
    claims += [
        (f"{TITLES[m]} changes features more ID than OOD", (m, "drift", "id"), (m, "drift", "ood")) for m in TUNED
    ]
    for better in ("lp-ft", "linear"):
        claims += [(f"{TITLES[better]} is better than {TITLES[m]} OOD", (better, "accuracy", "ood"), (m, "accuracy", "ood"))
                   for m in plain]  # fmt: skip
    claims.append(("LP-FT is better than LP OOD", ("lp-ft", "accuracy", "ood"), ("linear", "accuracy", "ood")))
    claims += [
        (f"{TITLES[m]} is better than LP ID", (m, "accuracy", "id"), ("linear", "accuracy", "id")) for m in TUNED
    ]
    claims += [(f"{TITLES[m]}: a probe refitted on its features is worse than LP OOD", ("linear", "accuracy", "ood"),
                (m, "refit", "ood")) for m in TUNED]  # fmt: skip
    rows = []
    for claim, more, less in claims:
        x_S, half = difference(seeds, more, less)
        rows.append((claim, said(x_S), f"± {half:.1f}", verdict(x_S, half)))
    return table("what sections 3 and 4 lead one to expect | difference, over seeds | over pictures | here", rows)


def page(told: Linear, seeds: Sequence[dict], image: str) -> str:
    cpu = np.mean([seed["seconds"] for seed in seeds])
    steps = EPOCHS * -(-MOST["train"] // BATCH)
    return f"""# Does fine-tuning distort features? Kumar et al.'s theory, drawn and measured

Made by `python examples/feature_distortion.py --seeds {len(seeds)}`, after Kumar et al. 2022
([arXiv:2202.10054](https://arxiv.org/abs/2202.10054)), sections 3 and 4; `python examples/linear_network.py` prints the first
half's tables in seconds.

**The theory.** A two-layer linear network answers v'Bx. B begins at good pretrained features. The training points span a
few directions of the input, and the gradient of B lies in that span: there the features move, elsewhere they stay. From a
random head, training moves head and features together, so the head that fits the moved features does not fit those that
stayed: the training points are fitted, and the error on other directions remains. From the head that linear probing
found (LP-FT) there is little left to move.

![Linear network and icon-clip]({image})

## The linear network

{linear.D} inputs, {linear.K} features, {linear.N} training points (Gaussian), {linear.DRAWS} draws by key; gradient flow by Runge and Kutta's fourth
order to time 100. Errors are roots of the paper's: the largest over inputs of length 1, in the training points' span ("in
distribution") or anywhere ("out of it"); the true answer's own largest is 1. FT and LP begin from a random head of length about
1, LP-FT from LP's limit. Mean ± half of the 95 % t-interval over draws, at the end.

{linear.by_off(told)}

FT with perfect features, by the head that it begins from. phi is that head's misalignment; section 3.2 bounds the error out of
distribution from below by it, at every time.

{linear.by_head(told)}

{linear.claims(told)}

## icon-clip

The same on a real encoder: IconShift's outline drawings in distribution, six other styles out of it. All methods but LP train
the image tower and the head by the library's `ft` recipe at icon-clip's rate (AdamW), {steps} steps of {BATCH}, on {MOST["train"]} training
pictures. What differs is the head at the start: class texts dealt to wrong classes ("dealt texts", a random head of the right
length), zeros, the classes' own texts, or the solved probe (LP-FT). Drift is the mean over pictures of |f - f0| / |f0| in
percent, f the shared features in the evaluation view. "Probe refitted" is a new head, solved on the tuned features of the
training pictures at LP's C: what it lacks against LP is lost from the features, not from the head.

{len(seeds)} seeds (order, crops, dealing; the pictures are the same) with 95 % t-intervals over seeds; {MOST["select"]} pictures of
select, {MOST["id"]} of id, {sum(MOST[s] for s in OOD)} over the six styles, whose mean is unweighted. Nothing was chosen on report pictures. A seed took
{cpu:.0f} seconds of one core, on a busy machine.

{icon_table(seeds)}

Differences in points, paired by seed and by picture, each with two 95 % intervals: another seed, the pictures being the
same, and other pictures of these classes, the mean over seeds being the same (ID against OOD are other pictures, so not
paired). "Holds" and "reversed" mean that both exclude zero; nothing is corrected for the number of claims. ID is the report split
`id`.

{icon_claims(seeds)}

{MARK}"""


MARK = "<!-- reading -->\n"


def main(
    seeds: Annotated[int, typer.Option(min=2)] = 3,
    out: Path = Path("runs/feature-distortion"),
    write: Path = Path("docs/feature-distortion.md"),
    threads: Annotated[int, typer.Option(help="Threads of this process.")] = 1,
) -> None:
    torch.set_num_threads(threads)
    with Bars() as watch:
        found = [icon_seed(out, seed, watch) for seed in range(seeds)]
    told = linear.all_runs()
    image = write.parent / "images" / f"{write.stem}.svg"
    files.write_text(image, picture(told, found))
    old = write.read_text() if write.exists() else ""
    text = page(told, found, f"images/{image.name}")
    files.write_text(write, text + old.partition(MARK)[2])  # what a person wrote about the tables stays
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
