"""Makes `synthetic_run.py` importable: importlib mode leaves its folder out."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
