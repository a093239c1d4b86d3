"""Every rule of ``stepout doctor`` by its id, findings made of them, and the table that the documentation shows.

Facts of the services are those of the Amazon States Language and of the guides of Step Functions, ECS, S3 and VPC.
Where a guide contradicts itself, the rule says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.doctor.findings import Finding, Rule
from stepout.doctor.rules_machine import MACHINE, OVERRIDES, RETRY
from stepout.doctor.rules_places import BUCKET, LOOKING, NETWORK, TASK

if TYPE_CHECKING:
    from stepout.doctor.findings import Severity

RULES: dict[str, Rule] = {rule.id: rule for rule in (*MACHINE, *RETRY, *OVERRIDES, *TASK, *BUCKET, *NETWORK, *LOOKING)}
"""Every rule by its id, in order."""


def find(  # noqa: PLR0913 - a finding has as many members; three of them are always said
    rule: str, where: str, what: str, *, do: str = "", example: Any = None, severity: Severity | None = None
) -> Finding:
    """Make a finding of a rule.

    Args:
        rule: Its id.
        where: A path within the document, such as ``States.Segment.Retry[0]``.
        what: What was found there; never a value that might be a secret.
        do: What to do, where it differs from the rule's own advice.
        example: JSON that shows it.
        severity: A lesser one than the rule's, where the case is milder or less certain.
    """
    known = RULES[rule]
    return Finding(
        rule=rule,
        severity=severity or known.severity,
        where=where,
        what=what,
        why=known.why,
        do=do or known.do,
        example=example,
    )


def rules_markdown() -> str:
    """Return the rules as the table that ``docs/doctor.md`` shows."""
    lines = ["| rule | severity | what | why it matters | what to do |", "| --- | --- | --- | --- | --- |"]
    for rule in RULES.values():
        cells = (rule.id, rule.severity, rule.title, rule.why, rule.do)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
