"""`check` and `split`, and how the other commands open data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.errors import UsageError

if TYPE_CHECKING:
    from likewise.data.records import Dataset
    from likewise.run.watch import Watch

Data = Annotated[
    str,
    typer.Argument(
        help="A folder of class folders, a CSV, TSV or parquet file, or a built-in name (likewise ls datasets). "
        "Behind a + corruptions of its id pictures: iconshift+fog,jpeg-3, photos/+corruptions-3."
    ),
]
Ood = Annotated[
    list[str],
    typer.Option(
        "--ood", help="Data from elsewhere, as NAME=PATH; reported, never trained or chosen on. May be repeated."
    ),
]
ImageCol = Annotated[str, typer.Option(help="Column with image paths, in a table.")]
LabelCol = Annotated[str, typer.Option(help="Column with class names, in a table.")]
GroupCol = Annotated[
    str, typer.Option(help="Column whose equal values stay on one side of a split (camera, patient, day).")
]
ImageRoot = Annotated[
    str, typer.Option(help="Folder that image paths of a table start from (default: the table's own).")
]
Classes = Annotated[str, typer.Option("--classes", help="YAML or JSON file: folder name to human name.")]
Templates = Annotated[str, typer.Option(help="Text file with one prompt a line, {} standing for the class.")]
MaxBad = Annotated[
    str, typer.Option(help="Largest share of unreadable images that is skipped rather than refused, like 2%.")
]
OnBad = Annotated[str, typer.Option("--on-bad-image", help="skip (up to --max-bad) or error.")]
ShotIndex = Annotated[
    str,
    typer.Option(
        "--shot-index",
        help="Take the --shots from a published choice: a JSON file, or the folder with shot_K-seed_S.json in it.",
    ),
]
Seed = Annotated[int, typer.Option(help="Decides splits, shots, order and captions.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def pairs(texts: list[str]) -> dict[str, Path]:
    """`NAME=PATH` options as a table. Raises `UsageError`."""
    out: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError("U01", f"--ood {text}: write NAME=PATH, for example --ood winter=photos_winter/.")
        if name in out:
            raise UsageError("U01", f"--ood {name} is given twice; each domain needs a name of its own.")
        out[name] = Path(path)
    return out


def share(text: str) -> float:
    """`2%` or `0.02` as a fraction."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError("U01", f"--max-bad {text}: write a share such as 2% or 0.02.") from None
    if not 0 <= value <= 1:
        raise UsageError("U01", f"--max-bad {text} is not between 0 and 100 %.")
    return value


def open_data(data: str, ood: list[str], options: dict[str, object], watch: Watch) -> Dataset:
    """The dataset behind a name or a path, audited; the audit is said whether or not it passes."""
    from likewise.data.audit import AuditError
    from likewise.data.records import Dataset
    from likewise.data.sources import SourceOptions
    from likewise.datasets import DATASETS
    from likewise.datasets.corruptions import corrupting

    data, finish = corrupting(data, int(str(options["seed"])))
    if data in DATASETS:
        if ood:
            raise UsageError("U01", f"{data} has domains of its own; --ood goes with data of yours.")
        opened = DATASETS[data]()
    else:
        given = {k: v for k, v in options.items() if v not in ("", ())}
        try:
            opened = Dataset.open(
                data, ood=pairs(ood), options=SourceOptions.parse(given, "options"), progress=watch.bar
            )
        except AuditError as error:
            watch.say(error.audit.text())
            raise
    opened = finish(opened)
    watch.say(opened.audit.text())
    return opened


def source_options(image_col: str = "", label_col: str = "", group_col: str = "", image_root: str = "", classes: str = "",
                   templates: str = "", rest: tuple[str, str, int] = ("1%", "skip", 0)) -> dict[str, object]:  # fmt: skip
    """The command line's flags as `SourceOptions` fields; `rest` is (max bad, on bad image, seed)."""
    lines: tuple[str, ...] = ()
    if templates:
        if not Path(templates).is_file():
            raise UsageError(
                "U01", f"--templates {templates} is not a file. Write one prompt a line, {{}} standing for the class."
            )
        lines = tuple(line.strip() for line in Path(templates).read_text().splitlines() if line.strip())
    return {"image_col": image_col, "label_col": label_col, "group_col": group_col, "image_root": image_root,
            "classes_file": classes, "templates": lines, "max_bad": share(rest[0]), "on_bad_image": rest[1], "seed": rest[2]}  # fmt: skip


def check(
    data: Data, ood: Ood = [], image_col: ImageCol = "", label_col: LabelCol = "", group_col: GroupCol = "",
    image_root: ImageRoot = "", classes: Classes = "", max_bad: MaxBad = "1%", on_bad_image: OnBad = "skip",
    seed: Seed = 0, json_: Json = False,
) -> int:  # fmt: skip
    """Open every image and say what is wrong; exit 1 on errors, 0 with warnings."""
    from likewise.cli.terminal import Bars, out
    from likewise.data.audit import AuditError

    options = source_options(image_col, label_col, group_col, image_root, classes, rest=(max_bad, on_bad_image, seed))
    with Bars(quiet=json_) as watch:
        try:
            audit = open_data(data, ood, options, watch).audit
        except AuditError as error:
            audit = error.audit
    if json_:
        out.print_json(json.dumps(audit.tree()))
    return 0 if audit.ok else 1


def split(
    data: Data, output: Annotated[Path, typer.Option("-o", "--output", help="Manifest to write, .csv or .parquet.")],
    ood: Ood = [], shots: Annotated[int, typer.Option(help="Keep so many training images a class (0: all).")] = 0,
    image_col: ImageCol = "", label_col: LabelCol = "", group_col: GroupCol = "", image_root: ImageRoot = "",
    classes: Classes = "", seed: Seed = 0,
    allow_short: Annotated[bool, typer.Option(help="Take what there is where a class has fewer than --shots.")] = False,
    shot_index: ShotIndex = "",
) -> int:  # fmt: skip
    """Make the train, select and report splits and write them down; `likewise adapt MANIFEST` then uses just these."""
    from likewise.cli.terminal import Bars, listing, out
    from likewise.data.split import write_manifest

    options = source_options(image_col, label_col, group_col, image_root, classes, rest=("1%", "skip", seed))
    with Bars() as watch:
        opened = open_data(data, ood, options, watch)
        if shots or shot_index:
            opened = opened.few(shots, seed, allow_short, shot_index)
        write_manifest(opened, output)
    rows = [(name, s["role"], str(s["images"])) for name, s in opened.tree()["splits"].items()]
    out.print(listing(("split", "role", "images"), rows))
    out.print(f"written to {output}", soft_wrap=True)
    return 0


COMMANDS = (check, split)
