"""Which state wrote an artifact, and which later ones were given it: rails between the rows of states. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from stepout.page.rendering.summary import artifacts_of

if TYPE_CHECKING:
    from stepout.page.model import ArtifactCard, RunPage, StateVisit

_RAILS: Final = 10
"""More artifacts than these have no rail of their own: words alone say where they went."""
_ROWS: Final = 60
_NAMES: Final = 12

Mark = Literal["", "wrote", "given", "passes"]


@dataclass(frozen=True, kw_only=True)
class LineageRow:
    """One visit, and what it has to do with each artifact that has a rail.

    Attributes:
        marks: By rail: what happens in this row, and whether the rail comes from above and goes on below.
        wrote: The artifacts that it wrote, the first ones.
        given: Those that its input named, the first ones.
        more_written: How many it wrote besides.
        more_given: How many it was given besides.
    """

    visit: StateVisit
    marks: tuple[tuple[Mark, bool, bool], ...]
    wrote: tuple[ArtifactCard, ...]
    given: tuple[ArtifactCard, ...]
    more_written: int
    more_given: int


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The rows, in the order of the visits; ``rails`` are the artifacts that have one, from left to right."""

    rows: tuple[LineageRow, ...]
    rails: tuple[ArtifactCard, ...]
    hidden: int
    unread: tuple[ArtifactCard, ...]


def lineage_of(page: RunPage) -> Lineage | None:
    """Return the lineage; ``None`` where no visit wrote an artifact, or was given one."""
    if page.execution is None:
        return None
    cards = {artifact.artifact_id: artifact for _, artifact in artifacts_of(page)}
    outputs = {output.output_id: output for output in page.outputs}
    wrote, given = {}, {}
    for visit in page.execution.visits:
        output = outputs.get(visit.output_id or "")
        wrote[visit.visit_id] = list(output.artifacts) if output is not None else []
        given[visit.visit_id] = [cards[each] for each in dict.fromkeys(visit.given) if each in cards]
    visits = [visit for visit in page.execution.visits if wrote[visit.visit_id] or given[visit.visit_id]]
    if not visits:
        return None
    shown = visits[:_ROWS]
    rails = _rails(shown, wrote, given)
    read = {card.artifact_id for cards in given.values() for card in cards}
    return Lineage(
        rows=tuple(_rows(shown, rails, wrote, given)),
        rails=tuple(rails),
        hidden=len(visits) - len(shown),
        unread=tuple(card for card in cards.values() if card.artifact_id not in read),
    )


_Cards = dict[str, "list[ArtifactCard]"]


def _rails(visits: list[StateVisit], wrote: _Cards, given: _Cards) -> list[ArtifactCard]:
    """Return the artifacts in the order of being met, if they are few."""
    met: dict[str, ArtifactCard] = {}
    for visit in visits:
        for card in [*given[visit.visit_id], *wrote[visit.visit_id]]:
            met.setdefault(card.artifact_id, card)
    return list(met.values()) if len(met) <= _RAILS else []


def _rows(visits: list[StateVisit], rails: list[ArtifactCard], wrote: _Cards, given: _Cards) -> list[LineageRow]:
    marks = [_marks_of(card, visits, wrote, given) for card in rails]
    return [
        LineageRow(
            visit=visit,
            marks=tuple(column[index] for column in marks),
            wrote=tuple(wrote[visit.visit_id][:_NAMES]),
            given=tuple(given[visit.visit_id][:_NAMES]),
            more_written=max(len(wrote[visit.visit_id]) - _NAMES, 0),
            more_given=max(len(given[visit.visit_id]) - _NAMES, 0),
        )
        for index, visit in enumerate(visits)
    ]


def _marks_of(
    card: ArtifactCard, visits: list[StateVisit], wrote: _Cards, given: _Cards
) -> list[tuple[Mark, bool, bool]]:
    """Return one rail from top to bottom: the mark in each row, and whether it comes from above and goes on."""
    marks: list[Mark] = []
    for visit in visits:
        is_written = any(each.artifact_id == card.artifact_id for each in wrote[visit.visit_id])
        is_given = any(each.artifact_id == card.artifact_id for each in given[visit.visit_id])
        marks.append("wrote" if is_written else "given" if is_given else "")
    met = [index for index, mark in enumerate(marks) if mark]
    first, last = met[0], met[-1]
    return [
        (mark or ("passes" if first < index < last else ""), first < index <= last, first <= index < last)
        for index, mark in enumerate(marks)
    ]
