"""Example pictures: from the split manifest to small data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from likewise.data.corrupt import changed
from likewise.report.read import ID, SELECT, Predictions, Run

SHARP = 2
"""Stored pixels per shown pixel, for dense screens; a picture is never enlarged."""


@dataclass
class Album:
    """The pictures of one run. `rows` are manifest rows by domain; `disagreeing` are the domains whose manifest
    and predictions name different classes, of which nothing is shown; `missing` counts files that did not open."""

    run: Run
    rows: Mapping[str, Sequence[int]]
    missing: int = 0
    disagreeing: list[str] = field(default_factory=list)
    _groups: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    _open: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Album:
        album = cls(run, {d: _rows(run.manifest, d) for d in ("train", SELECT, *run.domains)})
        for domain in (SELECT, *run.domains):
            predictions = run.predictions(run.chosen, domain) if album.rows[domain] and run.names else None
            if predictions is not None and not _agree(run, album.rows[domain], predictions):
                album.disagreeing.append(domain)
        return album

    def thumb(self, domain: str, index: int, size: int = 56) -> str | None:
        """A square data URI of at most `size * SHARP` pixels of one picture of a domain; None when it cannot be had."""
        rows = self.rows.get(domain, ())
        if domain in self.disagreeing or not 0 <= index < len(rows):
            return None
        try:
            return encode(self._changed(self._load(rows[index]), domain, rows[index]), size * SHARP)
        except (OSError, ValueError, KeyError, SyntaxError, pa.ArrowException, Image.DecompressionBombError):
            self.missing += 1  # moved or damaged since the run: the page says how many
            return None

    def label(self, domain: str, index: int) -> str:
        return str(self.run.manifest["label"][self.rows[domain][index]])

    def _changed(self, picture: Image.Image, domain: str, at: int) -> Image.Image:
        """The picture as the run saw it, where its domain is a corruption."""
        change = self.run.ways.get(domain, {}).get("change", "")
        return changed(picture.convert("RGB"), change, str(self.run.manifest["key"][at])) if change else picture

    def _load(self, at: int) -> Image.Image:
        path, row = str(self.run.manifest["path"][at]), int(self.run.manifest["row"][at])
        where = next((p for p in (Path(path), self.run.folder / path) if p.exists()), Path(path))
        if row < 0:
            return Image.open(where)
        return Image.open(io.BytesIO(self._cell(str(where), row)))

    def _cell(self, path: str, row: int) -> bytes:
        """Encoded bytes of one row of a parquet file; only its row group is read, and kept."""
        if path not in self._open:
            self._open[path] = pq.ParquetFile(path)
        table = self._open[path]
        for group in range(table.metadata.num_row_groups):
            n = table.metadata.row_group(group).num_rows
            if row < n:
                if (path, group) not in self._groups:
                    self._groups[path, group] = table.read_row_group(group, columns=["image"])["image"]
                cell = self._groups[path, group][row].as_py()
                return bytes(cell["bytes"] if isinstance(cell, dict) else cell)
            row -= n
        raise ValueError(f"{path} has too few rows")


def contact_sheet(album: Album, columns: int = 12) -> tuple[list[str], list[tuple[str, list[str | None]]]]:
    """Class folders, and for training and each reported domain one picture of each: the shift at a glance.

    The classes are those with pictures in most domains, evenly spread over the alphabet.
    """
    domains = [d for d in ("train", *album.run.domains) if album.rows.get(d)]
    first: dict[str, dict[str, int]] = {}
    for domain in domains:
        for index in range(len(album.rows[domain])):
            first.setdefault(album.label(domain, index), {}).setdefault(domain, index)
    if not first:
        return [], []
    most = max(len(places) for places in first.values())
    fit = sorted(label for label, places in first.items() if len(places) == most)
    chosen = [fit[i] for i in sorted(set(np.linspace(0, len(fit) - 1, min(columns, len(fit))).round().astype(int)))]
    sheet = []
    for domain in domains:
        row = [album.thumb(domain, first[c][domain]) if domain in first[c] else None for c in chosen]
        sheet.append((domain, row))
    return chosen, sheet


def _rows(manifest: Mapping[str, Sequence[Any]], domain: str) -> list[int]:
    """Manifest rows of a domain in manifest order. The split's own name wins, then its domain, then its role."""
    if not manifest:
        return []
    n = len(manifest["split"])
    splits, roles, domains = manifest["split"], manifest["role"], manifest["domain"]
    role = domain if domain in ("train", SELECT) else "report"
    found = [i for i in range(n) if splits[i] == domain and roles[i] == role]
    if not found and role == "report":
        found = [i for i in range(n) if domains[i] == domain and roles[i] == role]
    if not found and domain in ("train", SELECT):
        found = [i for i in range(n) if roles[i] == role]
    if not found and domain == ID:
        found = [i for i in range(n) if splits[i] in ("report", "test") and roles[i] == role]
    return found


def _agree(run: Run, rows: Sequence[int], predictions: Predictions) -> bool:
    """Whether every prediction's class id is the class that the manifest gives its row."""
    if int(predictions.index.max()) >= len(rows):
        return False
    labels = run.manifest["label"]
    for label, index in zip(predictions.labels.tolist(), predictions.index.tolist(), strict=True):
        if labels[rows[index]] not in (run.folders[label], run.names[label]):
            return False
    return True


def encode(picture: Image.Image, pixels: int) -> str:
    """The middle square on white, as PNG or JPEG, whichever is shorter: drawings favour one, photographs the other."""
    picture.draft("RGB", (pixels, pixels))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    side = min(pixels, *picture.size)
    small = ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    best = None
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 82, "optimize": True})):
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        if best is None or len(buffer.getvalue()) < len(best[1]):
            best = (kind, buffer.getvalue())
    assert best is not None
    return f"data:image/{best[0]};base64,{base64.b64encode(best[1]).decode()}"
