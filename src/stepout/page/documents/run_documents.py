"""The documents of one page, from wherever they come, and what they add to the execution: lineage, times, children."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.documents.foreign import ForeignReference, find_references
from stepout.artifacts.reading.documents.outcome import OutcomeReader
from stepout.artifacts.reading.fan_in.result_writer import listed_files, result_files
from stepout.page.causes import told_cause
from stepout.page.documents.cards import CardMaker, CardPlace
from stepout.page.documents.child_cells import (
    children_of_files,
    children_of_items,
    grid_of_executions,
    grid_of_iterations,
)
from stepout.page.documents.pull_outcomes import pulled_task
from stepout.page.documents.reported import ReportedDocument, document_key, reported_documents, reported_to
from stepout.page.history.event import read_time
from stepout.page.history.execution import attempt_of, visit_name
from stepout.page.history.step_functions import ask_children
from stepout.schemas.array import is_of_array
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    InvalidDocumentError,
    StepoutError,
    TaskFailedError,
    invalid_document,
)
from stepout.schemas.problems import Problem
from stepout.schemas.pull import AskedRun
from stepout.schemas.search.locate import find_documents
from stepout.schemas.search.traversal import called

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access
    from stepout.page.budget import PageBudget
    from stepout.page.documents.cards import MadeCard
    from stepout.page.documents.child_cells import Children
    from stepout.page.documents.sources import PageSource
    from stepout.page.history.execution import ExecutionHistory
    from stepout.page.history.found_documents import ObjectName
    from stepout.page.history.visits import Tried, Visited
    from stepout.page.model import ChildGrid, ExecutionRun, OutputCard, StateAttempt, StateVisit

_MOST_CARDS: Final = 100
_MOST_ITEMS: Final = 20
_SLACK: Final = timedelta(seconds=2)
"""Clocks differ, and documents count in whole seconds."""

_READERS: Final = ("Task", "Map")


class RunDocuments:
    """Collects the documents of one page.

    Args:
        access: How they, and their artifacts, are read.
        budget: What may be read.
        history: The execution; ``None``: there is none.
        step_functions: A client that Map Runs are asked of; ``None``: one of our own.
        blind: Whether nobody has said what may be read: then outcomes by URL are not even tried.

    Attributes:
        notes: What could not be found out.
    """

    def __init__(
        self,
        access: Access,
        budget: PageBudget,
        history: ExecutionHistory | None,
        *,
        step_functions: Any = None,
        blind: bool = False,
    ) -> None:
        self._access = access
        self._budget = budget
        self._history = history
        self._step_functions = step_functions
        self._blind = blind
        self._maker = CardMaker(access, budget, blind=blind)
        self._made: list[tuple[MadeCard, Visited | None, Tried | None]] = []
        self._seen: set[str] = set()
        self._left_out = 0
        self._grids: list[tuple[str, ChildGrid]] = []
        self.notes: list[str] = []

    # Where documents come from ----------------------------------------------------------------------------------

    def of_execution(self) -> None:
        """Take the documents that the execution's states reported, and look for those in pull mode."""
        if self._history is None:
            return
        found = reported_documents(self._history)
        reporting = {each.visit for each in found}
        outcomes = [
            (visit, tried)
            for visit in self._history.visits
            for tried in visit.tries
            if tried.url and visit not in reporting
        ]
        # In the order of the states, whichever way each of them reported.
        places: list[tuple[int, ReportedDocument | tuple[Visited, Tried]]] = [
            *((each.visit.number if each.visit else len(self._history.visits), each) for each in found),
            *((visit.number, (visit, tried)) for visit, tried in outcomes),
        ]
        asked: set[str] = set()
        for _, each in sorted(places, key=lambda place: place[0]):
            if isinstance(each, ReportedDocument):
                self._take(each.document, self._place(each.visit), each.visit, each.tried)
            elif each[1].url not in asked:
                asked.add(each[1].url)
                self._of_outcome(*each)
        for visit in self._history.visits:
            if visit.kind == "Map":
                self._of_map(visit)
        self._note_problems()

    def of_source(self, source: PageSource) -> None:
        """Take what a source holds, or leads to."""
        if source.problem is not None:
            self._keep(self._maker.problem(CardPlace(source.label), source.problem))
        elif source.manifest is not None:
            self._of_manifest(source.manifest, source.label)
        elif source.url:
            self._of_url(source)
        elif source.value is not None or source.arn is None:
            self._of_value(source.value, source.label)

    def _of_url(self, source: PageSource) -> None:
        try:
            found = pulled_task(source.url, self._access)
        except StepoutError as error:
            self._keep(self._maker.problem(CardPlace(source.label), error))
            return
        if found.outcome is None:
            self._of_value(found.document, source.label)
        else:
            self._keep(self._maker.pulled(CardPlace(source.label), found.outcome, found.producer))

    def _of_value(self, value: Any, label: str) -> None:
        try:
            found, references = find_documents(value), find_references(value)
        except InvalidDocumentError as error:
            self._keep(self._maker.problem(CardPlace(label), error))
            return
        manifests = [each for each in references if each.kind == "result-writer"]
        if isinstance(value, dict) and {"DestinationBucket", "ResultFiles"} <= value.keys():
            self._of_own_manifest(value, label)
        elif not found and not manifests:
            problem = Problem("$", "missing", "has no task output, no pointer and no ResultWriterDetails in it")
            self._keep(self._maker.problem(CardPlace(label), invalid_document(label, [problem])))
        if isinstance(value, list) and len(value) > 1 and any(each.kind == "output" for each in found):
            self._add_children(children_of_items(value), label)
            return
        for each in found:
            place = label if each.location == "$" or len(found) == 1 else f"{label} {each.location}"
            visit, tried = (None, None) if self._history is None else reported_to(self._history, each.document)
            self._take(each.document, CardPlace(place, _name_of(visit)), visit, tried)
        for manifest in manifests:
            self._of_manifest(manifest, label)

    def _of_own_manifest(self, manifest: dict[str, Any], label: str) -> None:
        """Take a manifest that was passed by itself, such as a file of it."""
        try:
            files = listed_files(self._access, manifest, ForeignReference("result-writer", "", label))
        except StepoutError as error:
            self._keep(self._maker.problem(CardPlace(label), error))
            return
        self._add_children(children_of_files(self._access, files, self._budget), label)

    def _of_outcome(self, visit: Visited, tried: Tried) -> None:
        """Read what a task in pull mode left at its URL."""
        if self._blind or tried.outcome == "ABORTED" or len(self._made) >= _MOST_CARDS:
            self._left_out += not self._blind
            return
        if is_of_array(tried.url):
            self.notes.append(f"{visit.name} runs an array job: pass the URLs of its children to see their outputs")
            return
        run = AskedRun(execution=self._history.run.arn if self._history else None, state=visit.name)
        try:
            document = OutcomeReader(run).read(tried.url, self._access)
        except TaskFailedError as error:
            said = told_cause(error.cause)
            tried.cause = replace(said, details="\n\n".join(filter(None, (tried.cause.cause, said.details))))
            tried.error = tried.error or error.error
            return
        except ArtifactNotFoundError as error:
            if tried.outcome == "SUCCEEDED":
                self._keep(self._maker.problem(self._place(visit), error), visit, tried)
            return
        except StepoutError as error:
            self._keep(self._maker.problem(self._place(visit), error), visit, tried)
            return
        self._take(document, self._place(visit), visit, tried, run)

    # Children of Maps ---------------------------------------------------------------------------------------------

    def _of_map(self, visit: Visited) -> None:
        manifests = [each for named, _ in visit.reported for each in named.manifests]
        items = next((named.items for named, _ in visit.reported if named.items), None)
        if manifests:
            self._of_manifest(manifests[0], visit.name, visit)
        elif visit.iterations:
            self._grids.append((visit.name, self._of_iterations(visit)))
        elif items:
            self._add_children(children_of_items(items), visit.name, visit)
        elif visit.map_runs:
            self._of_map_run(visit)

    def _of_iterations(self, visit: Visited) -> ChildGrid:
        counts: dict[int, int] = {}
        for made, reporter, _ in self._made:
            for scope in reporter.scopes() if reporter is not None else ():
                if scope.inside is visit and scope.iteration is not None:
                    counts[scope.iteration] = counts.get(scope.iteration, 0) + len(made.names)
        inside = self._history.visits[visit.number + 1 :] if self._history else ()
        return grid_of_iterations(visit, inside, counts)

    def _of_map_run(self, visit: Visited) -> None:
        try:
            children = ask_children(visit.map_runs[-1], self._budget, self._step_functions)
        except StepoutError as error:
            self.notes.append(f"the children of {visit.name} could not be asked for: {error}")
            return
        self._grids.append((visit.name, grid_of_executions(children)))

    def _of_manifest(self, reference: ForeignReference, label: str, visit: Visited | None = None) -> None:
        if self._blind:
            self.notes.append(f"the results of the children of {label} were not read")
            return
        try:
            files = result_files(self._access, reference)
            self._add_children(children_of_files(self._access, files, self._budget), label, visit)
        except StepoutError as error:
            self._keep(self._maker.problem(CardPlace(label, _name_of(visit)), error), visit)

    def _add_children(self, children: Children, label: str, visit: Visited | None = None) -> None:
        self._grids.append((label, children.grid))
        self.notes += children.notes
        for index, document in children.documents[:_MOST_ITEMS]:
            self._take(document, CardPlace(f"{label} [{index}]", _name_of(visit)), visit)

    # Cards --------------------------------------------------------------------------------------------------------

    def _take(
        self,
        document: Any,
        place: CardPlace,
        visit: Visited | None = None,
        tried: Tried | None = None,
        run: AskedRun | None = None,
    ) -> None:
        if called(document) is None:
            error = invalid_document(place.label, [Problem("$", "type", "must be a task output")])
            self._keep(self._maker.problem(place, error), visit, tried)
            return
        key = document_key(document)
        if key in self._seen:
            return
        self._seen.add(key)
        if len(self._made) >= _MOST_CARDS:
            self._left_out += 1
            return
        made = self._maker.make(document, place, run)
        if made.left_out:
            told = f"the page shows {len(made.names):,} of its artifacts, not {made.left_out:,} more"
            self.notes.append(f"{place.label}: {told}")
        self._keep(made, visit, tried)

    def _keep(self, made: MadeCard, visit: Visited | None = None, tried: Tried | None = None) -> None:
        self._made.append((made, visit, tried))

    def _place(self, visit: Visited | None) -> CardPlace:
        if visit is None:
            return CardPlace("the execution's output")
        path = visit.map_path
        return CardPlace(f"{visit.name} [{path}]" if path else visit.name, visit_name(visit.number))

    def _note_problems(self) -> None:
        visits = self._history.visits if self._history else ()
        problems = [each.unsearched for each in visits if each.unsearched]
        problems += [named.problem for each in visits for named, _ in each.reported if named.problem]
        if problems:
            told = f"{len(problems):,} inputs and outputs of states could not be searched for documents"
            self.notes.append(f"{told}, the first of them: {problems[0]}")

    # What it comes to -----------------------------------------------------------------------------------------------

    def outputs(self) -> tuple[OutputCard, ...]:
        """Return the cards, each artifact with the visits that were given it."""
        if self._left_out:
            self.notes.append(f"the page shows {len(self._made):,} documents, and leaves out {self._left_out:,} more")
        given = self._given()
        readers: dict[str, list[str]] = {}
        for visit_id, artifacts in given.items():
            for artifact in artifacts:
                readers.setdefault(artifact, []).append(visit_id)
        return tuple(
            replace(
                made.card,
                artifacts=tuple(
                    replace(each, given_to=tuple(readers.get(each.artifact_id, ()))) for each in made.card.artifacts
                ),
            )
            for made, _, _ in self._made
        )

    def children(self) -> ChildGrid | None:
        """Return the children of the Map that has most of them."""
        if not self._grids:
            return None
        name, grid = max(self._grids, key=lambda each: each[1].total)
        others = [f"{each} ({other.total:,} children)" for each, other in self._grids if other is not grid]
        if others:
            listed = ", ".join(others[:_MOST_ITEMS])
            self.notes.append(f"the grid shows the children of {name}, not those of {listed}")
        return grid

    def execution(self) -> ExecutionRun | None:
        """Return the execution, its visits with their documents."""
        if self._history is None:
            return None
        given = self._given()
        cards: dict[Visited, MadeCard] = {}
        by_try: dict[Tried, MadeCard] = {}
        for made, visit, tried in self._made:
            if visit is not None:
                cards.setdefault(visit, made)
            if tried is not None:
                by_try.setdefault(tried, made)
        visits = [
            self._with_documents(state, visit, cards.get(visit), by_try, given)
            for state, visit in zip(self._history.run.visits, self._history.visits, strict=True)
        ]
        return replace(self._history.run, visits=tuple(visits))

    @staticmethod
    def _with_documents(
        state: StateVisit,
        visit: Visited,
        card: MadeCard | None,
        by_try: dict[Tried, MadeCard],
        given: dict[str, tuple[str, ...]],
    ) -> StateVisit:
        return replace(
            state,
            output_id=None if card is None else card.card.output_id,
            given=given.get(state.visit_id, ()),
            attempts=tuple(
                _with_times(attempt_of(tried, number), tried, by_try.get(tried))
                for number, tried in enumerate(visit.tries)
            ),
        )

    def _given(self) -> dict[str, tuple[str, ...]]:
        """Return which artifacts of the page the input of each visit names."""
        artifacts: dict[ObjectName, list[str]] = {}
        for made, _, _ in self._made:
            for name, ids in made.objects.items():
                artifacts.setdefault(name, []).extend(ids)
        found = {}
        for visit in self._history.visits if self._history else ():
            if visit.kind in _READERS and not visit.iterations:
                named = dict.fromkeys(each for name in visit.given for each in artifacts.get(name, ()))
                if named:
                    found[visit_name(visit.number)] = tuple(named)
        return found


def _name_of(visit: Visited | None) -> str | None:
    return None if visit is None else visit_name(visit.number)


def _with_times(attempt: StateAttempt, tried: Tried, made: MadeCard | None) -> StateAttempt:
    """Return an attempt with when its work began, as far as its document, or its failure, says that."""
    if attempt.working_at is not None:
        return attempt
    cause = tried.cause.value
    run = cause.get("run") if isinstance(cause, dict) else None
    said = made.producer if made is not None else run if isinstance(run, dict) else {}
    told = [(read_time(said.get("startedAt")), "the container")]
    told.append((made.created if made is not None else None, "its first artifact"))
    for at, who in told:
        end = attempt.ended_at
        if at is None or at < attempt.scheduled_at - _SLACK or (end is not None and at > end + _SLACK):
            continue
        began = max(at, attempt.scheduled_at)
        return replace(attempt, working_at=began if end is None else min(began, end), working_said_by=who)
    return attempt
