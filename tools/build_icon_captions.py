"""Build icon-captions: ten thousand icons with their full names as captions.

    npm install --prefix /tmp/icons @iconify/json@2.2.535
    pip install '.[tools]' && python tools/build_icon_captions.py /tmp/icons/node_modules/@iconify/json

Writes `src/likewise/assets/icon-captions/`: `images.parquet` (one row a picture) and `card.md` (what it is, licences,
attribution). From the sets that icon-clip is pretrained on, so from no designer family that IconShift uses, and no
near-duplicate of an IconShift picture. Choices are in `sources.yaml`; every draw is by key, so the same package gives
the same bytes.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image

import icons
from likewise.data.hashing import distances, perceptual_hash
from likewise.keys import key_hash

ASSETS = Path(__file__).parent.parent / "src/likewise/assets"
FAR = 4  # bits of 64: a drawing this near to an IconShift picture is left out
SAME = 2  # the same, for two pictures of icon-captions: one drawing under two names would teach that they differ
MIN_INK = 20  # darkest pixel must be this much darker than paper; empty drawings are left out
TONES = {"light", "medium", "dark"}  # last words of an emoji that is there once for every skin


class Words(NamedTuple):
    """What is known of words: those in use, brands' names, and those that are words of nothing else."""

    real: set[str]
    brands: set[str]
    brand_words: set[str]

    @classmethod
    def of(cls, package: Path, drawn: dict[str, list[icons.Icon]]) -> Words:
        chosen = icons.sources()
        rule, style = chosen["captions"], set(chosen["style_words"])
        families: dict[str, set[str]] = defaultdict(set)
        for members in drawn.values():
            for icon in members:
                for word in icon.words:
                    families[word].add(icon.family)
        real = {w for w, kin in families.items() if len(kin) >= rule["word_families"] and re.fullmatch("[a-z]{3,}", w)}
        plain = [icon for prefix in rule["draw_no_logos"] for icon in drawn[prefix]]
        ours = {joined(icon.words) for icon in plain}
        logos: dict[str, set[str]] = defaultdict(set)
        for prefix, about in icons.collections(package).items():
            if about.get("category") == "Logos":
                for icon in icons.read(package, prefix):
                    logos[joined(icon.words)].add(prefix)
        brands = {name for name, sets in logos.items() if len(sets) >= rule["brand_sets"] and name not in ours}
        return cls(real - style, brands, brands - {word for icon in plain for word in icon.words})


def joined(words: tuple[str, ...]) -> str:
    return icons.concept(words).replace(" ", "")


def caption(name: str, words: Words, strict: bool = False) -> str:
    """The words of a name, sizes left out; empty where the name is no caption: codes, numbers, letters, brands.

    `strict` (for other names of a drawing) wants every word to be one in use or a word of style.
    """
    chosen = icons.sources()
    style = set(chosen["style_words"])
    parts = tuple(w for w in re.split(r"[-_\s]+", name.lower()) if w)
    parts = tuple(w for w in parts if not (w in style and any(c.isdigit() for c in w)))
    odd = any(len(w) < 2 or any(c.isdigit() for c in w) for w in parts)
    banned = set(parts) & set(chosen["captions"]["without_words"])
    known = words.real | style if strict else set(parts)
    if odd or banned or not set(parts) & words.real or not set(parts) <= known:
        return ""
    return "" if joined(parts) in words.brands or set(parts) & words.brand_words else " ".join(parts)


def candidates(package: Path) -> Iterator[tuple[icons.Icon, tuple[str, ...]]]:
    """Drawings with their captions: one of each set in turn, a set's own in an order drawn by key."""
    drawn = {prefix: list(icons.read(package, prefix)) for prefix in icons.pretraining_sets(package)}
    words, rule = Words.of(package, drawn), icons.sources()["captions"]
    queues = []
    for prefix, members in sorted(drawn.items()):
        others = icons.aliases(package, prefix)
        queue = []
        for icon in sorted(members, key=lambda icon: key_hash("icon-captions", icon.set, icon.name)):
            full = caption(icon.name, words)
            if not full or (prefix in rule["emoji"] and icon.words[-1] in TONES):
                continue
            more = [caption(name, words, strict=True) for name in others.get(icon.name, [])]
            more = [text for text in dict.fromkeys(more) if text and text != full]
            queue.append((icon, (full, *more[: rule["most_aliases"]])))
        queues.append(queue)
    for turn in range(max(map(len, queues))):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def gather(package: Path) -> list[dict]:
    """The rows, ordered by set and name."""
    rule = icons.sources()["captions"]
    shift = pq.read_table(ASSETS / "iconshift/images.parquet", columns=["phash"])["phash"].to_pylist()
    known = np.array([int(h, 16) for h in shift], dtype=np.uint64)
    rows: list[dict] = []
    mine = np.zeros(rule["pictures"], dtype=np.uint64)
    taken: Counter = Counter()
    for icon, captions in candidates(package):
        concept = icons.concept(tuple(captions[0].split()))
        if taken[concept] >= rule["per_concept"] or taken[icon.set, concept] >= rule["per_set_and_concept"]:
            continue
        rgba = icons.render(icon)
        image = Image.fromarray(icons.on_white(rgba))
        if rgba[..., 3].max() < 64 or np.asarray(image).min() > 255 - MIN_INK:
            continue
        code = perceptual_hash(image)
        if distances(known, code).min() <= FAR or (distances(mine[: len(rows)], code) <= SAME).any():
            continue
        taken[concept] += 1
        taken[icon.set, concept] += 1
        mine[len(rows)] = code
        rows.append({"image": encoded(image), "captions": list(captions), "set": icon.set, "name": icon.name,
                     "family": icon.family, "phash": f"{code:016x}"})  # fmt: skip
        if len(rows) == rule["pictures"]:
            return sorted(rows, key=lambda row: (row["set"], row["name"]))
    raise SystemExit(f"only {len(rows)} of {rule['pictures']} drawings fit; loosen `captions` in sources.yaml")


def encoded(image: Image.Image) -> bytes:
    """A PNG of the same pixels: grey where all are, which halves it."""
    rgb_HW3 = np.asarray(image)
    grey = (rgb_HW3 == rgb_HW3[..., :1]).all()
    buffer = io.BytesIO()
    (Image.fromarray(rgb_HW3[..., 0]) if grey else image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def card(package: Path, rows: list[dict]) -> str:
    about, rule = icons.collections(package), icons.sources()["captions"]
    version = json.loads((package / "package.json").read_text())["version"]
    per_set = Counter((row["set"], row["family"]) for row in rows)
    texts = [text for row in rows for text in row["captions"]]
    words = Counter(word for text in set(texts) for word in text.split())
    lines = [
        "# icon-captions: data card", "",
        f"{len(rows):,} icons, 64 x 64 RGB, with their full names as captions: {len(texts):,} captions, {len(set(texts)):,}",
        f"different ones, of {len(words):,} words. {sum(len(r['captions']) > 1 for r in rows):,} icons have further names (aliases).",
        f"Rendered with resvg from `@iconify/json` {version} by `tools/build_icon_captions.py`; choices in `tools/sources.yaml`.",
        "", "## What it is for", "",
        "Weak language supervision of a vision encoder, offline: pictures with a few words each, no classes. The words are",
        "those of the designers' file names, style words included (`alarm clock outline`), sizes left out.", "",
        "## How it was chosen", "",
        f"From {len(per_set)} permissively licensed sets, all among those that icon-clip is pretrained on: no set of logos or of",
        f"country flags, no designer family that IconShift uses, no drawing whose perceptual hash is within {FAR} of 64 bits of an",
        f"IconShift picture, none within {SAME} bits of another here. One drawing of each set in turn, drawn by key, so small sets",
        f"are whole and large ones sampled; at most {rule['per_concept']} drawings of a name without its style words, {rule['per_set_and_concept']} in one set. A name needs a",
        f"word that {rule['word_families']} designer families use; codes, numbers, single letters, brands and skin tones are left out.",
        "`tests/icon_captions_test.py` proves families and distances. Which pictures are held for retrieval is drawn by key when it is",
        "opened, with equal captions on one side.", "",
        "## What it cannot do", "",
        "A name says what a designer was asked for, not what is to be seen: `settings` is a gear, `favorite` a heart. Five drawings",
        "of one name may not look alike. Encoders that were pretrained on icons have seen some of them: it shows how tuning goes,",
        "not what can be learnt from pictures of a new kind.", "",
        "## Sources and licences", "",
        "| set | title | author | licence | family | pictures |", "|---|---|---|---|---|---:|",
    ]  # fmt: skip
    for (prefix, kin), n in sorted(per_set.items()):
        info = about[prefix]
        author, licence = info["author"], info["license"]
        lines.append(f"| {prefix} | {info['name']} | [{author['name']}]({author.get('url', '')}) | "
                     f"[{licence['title']}]({licence.get('url', '')}) | {kin} | {n} |")  # fmt: skip
    lines += ["", "The pictures keep their designers' licences; changes made: rendered at 64 x 64 on white."]
    return "\n".join(lines) + "\n"


def main(package: Path, out: Path = ASSETS / "icon-captions") -> None:
    rows = gather(package)
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), out / "images.parquet", compression="zstd")
    (out / "card.md").write_text(card(package, rows))
    typer.echo(f"{len(rows)} pictures, {(out / 'images.parquet').stat().st_size / 1e6:.1f} MB -> {out}")


if __name__ == "__main__":
    typer.run(main)
