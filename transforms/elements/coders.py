"""Beam's coders of records: JSON, so that a job can be updated to a version with other fields."""

from __future__ import annotations

from typing import Any, ClassVar

from apache_beam import coders

from transforms.elements.plan import Task
from transforms.elements.records import from_json, to_json
from transforms.elements.report import Report

__all__ = ["RecordCoder", "ReportCoder", "TaskCoder"]


class RecordCoder(coders.Coder):
    """Codes a dataclass or named tuple, ``record``, by the names of its fields."""

    record: ClassVar[type]

    def encode(self, value: Any) -> bytes:
        """Write it."""
        return to_json(value)

    def decode(self, encoded: bytes) -> Any:
        """Read it, in this version or another."""
        return from_json(self.record, encoded)

    def is_deterministic(self) -> bool:
        """Return False: equal schemas may have their columns in another order."""
        return False


class TaskCoder(RecordCoder):
    """Codes a task with its plan, or its ``RedrivePlan``."""

    record = Task


class ReportCoder(RecordCoder):
    """Codes a report with its whole plan."""

    record = Report


coders.registry.register_coder(Task, TaskCoder)
coders.registry.register_coder(Report, ReportCoder)
