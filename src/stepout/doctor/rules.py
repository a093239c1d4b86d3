"""Every rule of ``stepout doctor`` by its id, findings made of them, and the table that the documentation shows.

The rules are data: ``rules.toml`` beside this file. What looks for them in documents are the modules of this room.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Any

from stepout.doctor.findings import SEVERITIES, Finding, Rule

if TYPE_CHECKING:
    from stepout.doctor.findings import Severity


def read_rules(text: str) -> dict[str, Rule]:
    """Return the rules of a table by their ids, in its order.

    Args:
        text: TOML: ``[SO101]`` with ``severity``, ``title``, ``why``, ``do`` and, optionally, ``example``.

    Raises:
        ValueError: A rule has other members, or a severity that there is not.
    """
    rules = {}
    for name, members in tomllib.loads(text).items():
        try:
            rules[name] = rule = Rule(id=name, **members)
        except TypeError as error:
            raise ValueError(f"rule {name}: {error}") from None
        if rule.severity not in SEVERITIES:
            raise ValueError(f"rule {name}: severity {rule.severity!r}: expected one of {', '.join(SEVERITIES)}")
    return rules


RULES = read_rules(resources.files("stepout.doctor").joinpath("rules.toml").read_text(encoding="utf-8"))
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
        example: JSON that shows it, where the rule has none of its own.
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
        example=known.example if example is None else example,
    )
