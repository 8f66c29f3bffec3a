"""Asking many models about one split: those on the untouched encoder share its features, the others one reading."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from likewise.data.records import Split
from likewise.predict import Candidate, Predictions, features, head_logits, placed, predict
from likewise.run.stage import Job

Alpha = float | None


def ask(job: Job, asked: Mapping[str, Mapping[Alpha, Candidate]], split: Split) -> dict[tuple[str, Alpha], Predictions]:
    """Every candidate's predictions on one split, by (method, alpha), in the order given."""
    everyone = {(method, alpha): candidate for method, path in asked.items() for alpha, candidate in path.items()}
    still = [key for key, candidate in everyone.items() if not candidate.moves_images or key[1] == 0]

    def progress(done: int, total: int) -> None:
        job.heed(f"while reading {split.name}")
        job.watch.bar(f"reading {split.name}", done, total)

    said: dict[tuple[str, Alpha], Predictions] = {}
    kinds = {everyone[key].head.config.reads for key in still}
    found = {reads: features(job.encoder, split, reads, **job.reading) for reads in sorted(kinds)}
    for key in still:
        head = everyone[key].head
        with placed(job.encoder, everyone[key]) if head.config.live_text else contextlib.nullcontext():
            said[key] = head_logits(head, found[head.config.reads], split)
    moved = {key: candidate for key, candidate in everyone.items() if key not in still}
    if moved:
        said |= dict(
            zip(
                moved,
                predict(job.encoder, list(moved.values()), split, **{**job.reading, "progress": progress}),
                strict=True,
            )
        )
    return {key: said[key] for key in everyone}
