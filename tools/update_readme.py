"""Put a run's table into the README, and its report's picture beside it.

    likewise adapt iconshift -o runs/readme && python tools/update_readme.py runs/readme

The picture needs Chromium; without it only the table is renewed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import typer
from PIL import Image

from likewise import files
from likewise.report import table_markdown

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- table:begin -->\n", "<!-- table:end -->"
HEIGHT = 2150  # pixels of the page that the README shows: verdict, table, the scatter


def main(run: Path) -> None:
    """Renew README.md and docs/images/report.png from a finished run."""
    results, about = files.read_json(run / "results.json"), files.read_json(run / "environment.json")
    chosen = results["chosen"]
    alpha = "" if chosen["alpha"] is None else f" at alpha {chosen['alpha']:g}"
    words = (
        f"`likewise adapt iconshift`, {results['seconds'] / 60:.1f} minutes on {about['threads']} CPU cores (torch "
        f"{about['torch']}), one run, seed 0. Percent, 95 % intervals over pictures.\n\n{table_markdown(run)}\n"
        f"Chosen: **{chosen['method']}{alpha}**: {chosen['why']}\n"
    )
    page = ROOT / "README.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + words + END + rest.partition(END)[2])
    if not (browser := shutil.which("chromium")):
        typer.echo("no chromium: the picture stays as it was")
        return
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "shot.png"
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
        subprocess.run([browser, *quiet, f"--user-data-dir={scratch}/profile", f"--screenshot={shot}",
                        f"--window-size=1120,{HEIGHT}", (run / "report.html").absolute().as_uri()], check=True)  # fmt: skip
        out = ROOT / "docs/images/report.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.open(shot).convert("RGB").save(out, optimize=True)


if __name__ == "__main__":
    typer.run(main)
