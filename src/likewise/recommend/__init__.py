"""Where a person's data lies on the plane of amount and similarity, and which recipe follows from it."""

from __future__ import annotations

from likewise.recommend.evidence import PRIORITIES, Priority
from likewise.recommend.recommendation import Recommendation, recommend
from likewise.recommend.regime import Regime, distance, regime

__all__ = ["PRIORITIES", "Priority", "Recommendation", "Regime", "distance", "recommend", "regime"]
