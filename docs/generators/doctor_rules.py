"""The page of the doctor's rules, from ``src/stepout/doctor/rules.toml``."""

from __future__ import annotations

from stepout.doctor.rules import RULES

_BEGINNING = """\
# The doctor's rules

`stepout doctor` names each finding by its rule. A rule's number never changes its meaning. A finding can be milder
than its rule: without the task definition, for example, nobody can know that a variable is missing.
[How to run it](../how-to/doctor.md).

| rule | severity | what | why it matters | what to do |
| --- | --- | --- | --- | --- |
"""


def doctor_rules_page() -> str:
    """Return the page's Markdown."""
    rows = ((rule.id, rule.severity, rule.title, rule.why, rule.do) for rule in RULES.values())
    return _BEGINNING + "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
