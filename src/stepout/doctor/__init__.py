"""``stepout doctor``: what will go wrong, found by rules in state machines, task definitions, buckets and subnets."""

from stepout.doctor.examination import examine
from stepout.doctor.findings import Document

__all__ = ["Document", "examine"]
