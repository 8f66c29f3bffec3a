"""Where a person's data lies on the plane of amount and similarity, and what follows from it."""

from __future__ import annotations

from likewise.recommend.regime import Regime, distance, regime

__all__ = ["Regime", "distance", "regime"]
