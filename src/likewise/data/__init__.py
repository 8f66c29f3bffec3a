"""A person's pictures: sources, audit, split roles, few-shot choice, views, batches, prompts."""

from likewise.data.audit import Audit
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.data.sources import SourceOptions

__all__ = ["Audit", "ClassTable", "Dataset", "Record", "SourceOptions", "Split"]
