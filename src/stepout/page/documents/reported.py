"""Which visit reported which document: by what the document says of its producer, else by where it came out. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.page.history.found_documents import objects_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepout.page.history.execution import ExecutionHistory
    from stepout.page.history.visits import Tried, Visited

_IDENTITY: Final = ("producer", "result")


@dataclass(frozen=True, kw_only=True)
class ReportedDocument:
    """A document that came out of an execution.

    Attributes:
        document: The task output, as it is.
        visit: Of the state whose task made it; ``None`` if it came out of none that the history has.
        tried: The try that made it, as far as that is known.
    """

    document: dict[str, Any]
    visit: Visited | None
    tried: Tried | None


def reported_documents(history: ExecutionHistory) -> list[ReportedDocument]:
    """Return every document that came out of an execution, once, in the order of the states that made them.

    A document goes on from state to state, by itself or merged into others: it counts where it came out first.
    """
    producers = _Producers(history)
    found: dict[str, ReportedDocument] = {}
    for document, visit, tried in _came_out(history):
        key = document_key(document)
        if key not in found:
            found[key] = producers.reported(document, visit, tried)
    last = len(history.visits)
    return sorted(found.values(), key=lambda each: last if each.visit is None else each.visit.number)


def reported_to(history: ExecutionHistory, document: dict[str, Any]) -> tuple[Visited | None, Tried | None]:
    """Return the visit, and the try, that a document from elsewhere says it was made in; ``None``: in none."""
    found = _Producers(history).reported(document, None, None)
    return found.visit, found.tried


def document_key(document: dict[str, Any]) -> str:
    """Return what a document is known by, whatever was merged into it: its producer, its result, what it points to."""
    told = [document.get(name) for name in _IDENTITY]
    text = json.dumps([told, sorted(objects_of(document)), document.get("stepout")], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _came_out(history: ExecutionHistory) -> Iterator[tuple[dict[str, Any], Visited | None, Tried | None]]:
    # What a task returned comes first: what a state gives on may be what it was given.
    for visit in history.visits:
        for named, tried in visit.reported:
            if tried is not None:
                yield from ((document, visit, tried) for document in named.outputs)
    for visit in history.visits:
        given = frozenset(visit.given)
        for named, tried in visit.reported:
            if tried is None:
                yield from ((each, visit, None) for each in named.outputs if not _was_given(each, given))
    yield from ((document, None, None) for document in history.named.outputs)


def _was_given(document: dict[str, Any], given: frozenset[Any]) -> bool:
    objects = list(objects_of(document))
    return bool(objects) and given.issuperset(objects)


class _Producers:
    """Knows the visits of an execution by the names of their states."""

    def __init__(self, history: ExecutionHistory) -> None:
        self._arn = history.run.arn
        self._visits: dict[str, list[Visited]] = {}
        for visit in history.visits:
            self._visits.setdefault(visit.name, []).append(visit)

    def reported(self, document: dict[str, Any], visit: Visited | None, tried: Tried | None) -> ReportedDocument:
        """Return a document with the visit that made it."""
        producer = document.get("producer")
        said = producer if isinstance(producer, dict) else {}
        owner = self._owner(said, visit)
        if owner is not visit:
            tried = None
        tried = tried or (None if owner is None else _try_of(owner, said))
        return ReportedDocument(document=document, visit=owner, tried=tried)

    def _owner(self, said: dict[str, Any], visit: Visited | None) -> Visited | None:
        state = said.get("state")
        if said.get("execution") != self._arn or (visit is not None and visit.name == state):
            return visit
        candidates = self._visits.get(state, []) if isinstance(state, str) else []
        path = said.get("mapIndex")
        # An array job's child has an index of its own behind that of the Map's item.
        placed = [each for each in candidates if isinstance(path, str) and _is_at(each.map_path, path)]
        before = [each for each in placed or candidates if visit is None or each.number <= visit.number]
        found = before or placed or candidates
        return found[-1] if found else visit


def _is_at(path: str, said: str) -> bool:
    return path == said or (path != "" and said.startswith(f"{path}-"))


def _try_of(visit: Visited, said: dict[str, Any]) -> Tried | None:
    """Return the try of a visit that a producer says it was; else the one that succeeded."""
    place = said.get("attempt"), said.get("redrive", 0)
    same = [each for each in visit.tries if (each.retry, each.redrive) == place]
    return next(iter(same or _succeeded(visit.tries)), None)


def _succeeded(tries: Iterable[Tried]) -> list[Tried]:
    return [each for each in tries if each.outcome == "SUCCEEDED"]
