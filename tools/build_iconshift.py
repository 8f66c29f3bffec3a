"""Build IconShift: the same everyday concepts drawn by independent designers, in seven styles.

    npm install --prefix /tmp/icons @iconify/json@2.2.535
    pip install '.[tools]' && python tools/build_iconshift.py /tmp/icons/node_modules/@iconify/json

Writes `src/likewise/assets/iconshift/`: `images.parquet` (one row a picture), `card.md` (counts, licences,
attribution) and `classes.json`. The choices are in `sources.yaml`; nothing here is random, so the same package
gives the same bytes.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image

import icons
from likewise.data.hashing import distances, perceptual_hash

OUT = Path(__file__).parent.parent / "src/likewise/assets/iconshift"
NEAR = 2  # bits of 64 within which two pictures count as one drawing, whatever their names
NEAR_SAME_NAME = 4  # the same, for two pictures of one concept: forks redraw with small changes
MIN_INK = 20  # darkest pixel must be this much darker than paper; empty drawings are left out


def names_of(domain: str) -> dict[str, str]:
    """Plain name, hyphens left out -> concept, for one domain."""
    chosen = icons.sources()
    table: dict[str, str] = {}
    for concept, others in chosen["concepts"].items():
        extra = chosen["domain_names"].get(domain, {}).get(concept, [])
        for name in (concept, *others, *extra):
            table[name.replace("-", "")] = concept
    return table


def candidates(package: Path, prefix: str, domain: str) -> list[tuple[icons.Icon, str]]:
    """The set's drawings of our concepts, best-named first, in the package's order within a concept."""
    table, chosen = names_of(domain), icons.sources()
    skip = {name for of, name in chosen["except"] if of == prefix}
    other_names = icons.aliases(package, prefix)
    style = set(chosen["domain_style_words"].get(domain, []))
    found: list[tuple[int, icons.Icon, str]] = []
    for icon in icons.read(package, prefix):
        if icon.name in skip or (domain == "outline" and set(icon.words) & set(chosen["not_outline"])):
            continue
        for rank, name in enumerate((icon.name, *other_names.get(icon.name, []))):
            whole = name.replace("-", "").lower()
            words = tuple(w for w in name.lower().split("-") if w not in style)
            plain = icons.concept(words).replace(" ", "")
            concept = table.get(whole) or table.get(plain)
            if concept:
                found.append((rank, icon, concept))
                break
    found.sort(key=lambda item: item[0])
    return [(icon, concept) for _, icon, concept in found]


def gather(package: Path) -> list[dict]:
    """Every picture that may enter, in a fixed order: report and select first, so that a duplicate costs training."""
    chosen = icons.sources()
    plan = [("report", "outline", s) for s in chosen["report"]]
    plan += [("ood", domain, s) for domain, sets in chosen["ood"].items() for s in sets]
    plan += [("select", "outline", s) for s in chosen["select"]]
    plan += [("train", "outline", s) for s in chosen["train"]]
    rows: list[dict] = []
    hashes = np.zeros(0, dtype=np.uint64)
    for side, domain, prefix in plan:
        assert icons.permissive(package, prefix), prefix
        taken: Counter[str] = Counter()
        for icon, concept in candidates(package, prefix, domain):
            if taken[concept] >= chosen["max_per_set"][side]:
                continue
            image = Image.fromarray(icons.on_white(icons.render(icon)))
            if np.asarray(image).min() > 255 - MIN_INK:
                continue
            code = perceptual_hash(image)
            far = distances(hashes, code)
            kin = np.array([row["concept"] == concept for row in rows], dtype=bool)
            if (far <= NEAR).any() or (far[kin] <= NEAR_SAME_NAME).any():
                continue
            taken[concept] += 1
            hashes = np.append(hashes, np.uint64(code))
            buffer = io.BytesIO()
            image.save(buffer, "PNG", optimize=True)
            rows.append({
                "image": buffer.getvalue(), "concept": concept, "domain": domain, "side": side, "set": prefix,
                "name": icon.name, "family": icon.family, "phash": f"{code:016x}",
            })  # fmt: skip
    return rows


def drop_rare(rows: list[dict]) -> list[dict]:
    """Concepts with little to train on, or missing in most styles, are left out."""
    kept = []
    for concept in icons.sources()["concepts"]:
        mine = [r for r in rows if r["concept"] == concept]
        sides = Counter(r["side"] for r in mine)
        styles = {r["domain"] for r in mine}
        if sides["train"] >= 4 and len(styles) >= 4:
            kept += mine
        else:
            typer.echo(f"left out {concept}: {dict(sides)}, styles {sorted(styles)}")
    return kept


def card(package: Path, rows: list[dict]) -> str:
    about = icons.collections(package)
    version = json.loads((package / "package.json").read_text())["version"]
    groups = ["train", "select", "report", *icons.sources()["ood"]]

    def group(row: dict) -> str:
        return row["domain"] if row["side"] == "ood" else row["side"]

    counts = Counter(group(r) for r in rows)
    per_class: dict[str, Counter[str]] = {}
    for row in rows:
        per_class.setdefault(row["concept"], Counter())[group(row)] += 1
    sets = Counter((r["set"], group(r), r["family"]) for r in rows)
    lines = [
        "# IconShift: data card", "",
        f"{len(rows)} pictures, 64 x 64 RGB, of {len(per_class)} everyday concepts drawn by independent designers.",
        f"Rendered with resvg from `@iconify/json` {version} by `tools/build_iconshift.py`; choices in `tools/sources.yaml`.",
        "", "## What it is for", "",
        "Distribution shift that is real (people with different styles), small (a laptop) and free. Train and choose on",
        "*outline* drawings; report on outline drawings by other designers and on six styles never trained on.", "",
        "## How it was split", "",
        "By designer family: a family (an author, or sets that fork or accompany each other) is on one side only, of",
        "train, select, report, ood and the pretraining data of icon-clip. Pictures whose perceptual hashes differ in at",
        f"most {NEAR} of 64 bits ({NEAR_SAME_NAME} within a concept) are kept once, the reported one staying; drawings of",
        "the pretraining corpus that near to any picture here were removed there. `tests/assets_test.py` proves both.", "",
        "| part | role | pictures | designer sets |", "|---|---|---:|---|",
    ]  # fmt: skip
    for g in groups:
        role = g if g in ("train", "select", "report") else "report (out of distribution)"
        members = sorted({s for (s, gg, _) in sets if gg == g})
        lines.append(f"| {g} | {role} | {counts[g]} | {', '.join(members)} |")
    lines += ["", "## What it cannot do", "",
        "The labels are the designers' file names: a `phone` may be a handset or a mobile, a `globe` a wire frame or the",
        "Earth, and `engraved` (one project, many authors) draws fantasy objects. Icons are not photographs: a ranking of methods",
        "here is evidence about shift of style, not a promise for yours.", "",
        "## Sources and licences", "",
        "| set | title | author | licence | part | family | pictures |", "|---|---|---|---|---|---|---:|"]  # fmt: skip
    for (prefix, g, kin), n in sorted(sets.items()):
        info = about[prefix]
        author, licence = info["author"], info["license"]
        lines.append(f"| {prefix} | {info['name']} | [{author['name']}]({author.get('url', '')}) | "
                     f"[{licence['title']}]({licence.get('url', '')}) | {g} | {kin} | {n} |")  # fmt: skip
    lines += ["", "The pictures keep their designers' licences; changes made: rendered at 64 x 64 on white.", "",
        "## Counts per class", "", "| class | " + " | ".join(groups) + " |", "|---|" + "---:|" * len(groups)]  # fmt: skip
    lines += [f"| {c} | " + " | ".join(str(n[g]) for g in groups) + " |" for c, n in per_class.items()]
    return "\n".join(lines) + "\n"


def main(package: Path, out: Path = OUT) -> None:
    rows = drop_rare(gather(package))
    rows.sort(key=lambda r: (r["side"], r["domain"], r["concept"], r["set"], r["name"]))
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), out / "images.parquet", compression="zstd")
    (out / "card.md").write_text(card(package, rows))
    typer.echo(Counter((r["side"], r["domain"]) for r in rows))
    typer.echo(f"{len(rows)} pictures, {(out / 'images.parquet').stat().st_size / 1e6:.1f} MB -> {out}")


if __name__ == "__main__":
    typer.run(main)
