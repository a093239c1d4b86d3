"""What the doctor says: rules, findings, and what a caller expects of the things it looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From the worst on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: Stable, such as ``SO101``; its hundreds say what is looked at.
        severity: ``error`` (it will fail, hang or lose data), ``warning`` (it will hurt some day), ``note`` (know it).
        title: What is found.
        why: Why it matters.
        do: What to do.
        example: JSON that shows it, where it is always the same; else ``None``.
    """

    id: str
    severity: Severity
    title: str
    why: str
    do: str
    example: Any = None

    def to_dict(self) -> dict[str, str]:
        """Return the rule as JSON, without its example: findings show that."""
        return {"id": self.id, "severity": self.severity, "title": self.title, "why": self.why, "do": self.do}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        rule: The rule's id.
        severity: The rule's, or a lesser one where the case is milder.
        where: A path within the document, such as ``States.Segment.Retry[0]``.
        what: What was found there; never a value of an environment variable.
        why: Why it matters.
        do: What to do.
        example: JSON that shows it, or ``None``.
        source: Which document, as the caller named it.
    """

    rule: str
    severity: Severity
    where: str
    what: str
    why: str
    do: str
    example: Any = None
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON; ``example`` is absent rather than null."""
        found = {
            "rule": self.rule,
            "severity": self.severity,
            "source": self.source,
            "where": self.where,
            "what": self.what,
            "why": self.why,
            "do": self.do,
        }
        return found if self.example is None else {**found, "example": self.example}


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON document to look at.

    Attributes:
        source: Its name in findings: a file, an ARN, a bucket.
        value: What was parsed.
    """

    source: str
    value: Any = field(repr=False)


Looked = tuple[list[Document], list[Finding]]
"""What was seen, and what could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the documents do not say themselves; ``None``: unknown.

    Attributes:
        stop_budget: How long uploads and the report need after SIGTERM, in seconds.
        longest_job: How long the longest job runs, in seconds; else the longest TimeoutSeconds that is seen.
        keep: How long consumers need the artifacts, in seconds; else ``longest_job``.
        prefix: Where artifacts go within the bucket; else the STEPOUT_PREFIX that is seen.
    """

    stop_budget: float | None = None
    longest_job: float | None = None
    keep: float | None = None
    prefix: str | None = None
