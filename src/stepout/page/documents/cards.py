"""Cards of documents: what each says of its task and its artifacts, and what is inside of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.artifacts.listing import size_of_files
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.output import Output, make_output
from stepout.page.causes import plain
from stepout.page.documents.invalid_documents import valid_members
from stepout.page.history.event import read_time
from stepout.page.history.found_documents import ObjectName
from stepout.page.insides import NOTHING_READ, look_inside
from stepout.page.model import ArtifactCard, CardProblem, OutputCard
from stepout.schemas.errors import IntegrityError, NotAllowedError, StepoutError, StoreError
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.pull import AskedRun
from stepout.schemas.search.locate import Found, check_version
from stepout.schemas.search.traversal import called
from stepout.schemas.text.foreign_text import shown_json
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from datetime import datetime

    from stepout.artifacts.reading.access import Access
    from stepout.page.budget import PageBudget
    from stepout.page.model import PulledOutcome

_MOST_ARTIFACTS: Final = 200
_MOST_RESULT: Final = 64 << 10
_MOST_ANNOTATIONS: Final = 4_000


@dataclass(kw_only=True)
class MadeCard:
    """A card, and what is known of its document besides.

    Attributes:
        producer: As the document has it.
        names: The identities of its artifacts' objects, by what these are called on the page.
        objects: Every object that stands for the document or a part of it: its own manifest, too.
        created: When its first artifact was made.
        left_out: How many of its artifacts have no card.
    """

    card: OutputCard
    producer: dict[str, Any] = field(default_factory=dict)
    names: dict[str, ObjectName] = field(default_factory=dict)
    objects: dict[ObjectName, list[str]] = field(default_factory=dict)
    created: datetime | None = None
    left_out: int = 0


class CardPlace(NamedTuple):
    """Where a document comes from: what that is called, and the visit that reported it, by its name on the page."""

    label: str
    visit_id: str | None = None


class CardMaker:
    """Makes the cards of one page, and counts them.

    Args:
        access: How artifacts are read.
        budget: What may be read.
        blind: Whether nobody has said what may be read.
    """

    def __init__(self, access: Access, budget: PageBudget, *, blind: bool = False) -> None:
        self._access = access
        self._blind = blind
        self._budget = budget
        self._outputs = 0
        self._artifacts = 0

    def problem(self, place: CardPlace, error: StepoutError) -> MadeCard:
        """Make the card of a document that cannot be read."""
        card = OutputCard(output_id=self._next(), label=place.label, visit_id=place.visit_id, problem=problem_of(error))
        return MadeCard(card=card)

    def pulled(self, place: CardPlace, outcome: PulledOutcome, producer: dict[str, Any] | None) -> MadeCard:
        """Make the card of a task in pull mode that has put out no document."""
        card = OutputCard(
            output_id=self._next(),
            label=place.label,
            visit_id=place.visit_id,
            producer=_told_producer(producer or {}),
            outcome=outcome,
        )
        return MadeCard(card=card)

    def make(self, document: dict[str, Any], place: CardPlace, run: AskedRun | None = None) -> MadeCard:
        """Make the card of a task output or of a pointer, an object that calls itself one of both.

        Args:
            document: It.
            place: Where it comes from.
            run: The run that it must be of; ``None``: any.
        """
        try:
            if called(document) == "pointer":
                check_version(Found("$", "pointer", document))
                pointer = Pointer.from_dict(document)
                return self._made(place, {PurePosixPath(pointer.key).name: pointer}, TaskOutput(artifacts={}))
            check_version(Found("$", "output", document))
            return self._of_output(document, place, run or AskedRun())
        except StepoutError as error:
            valid = valid_members(document, run or AskedRun())
            if valid is None:
                return self.problem(place, error)
            pointers, told = valid
            return self._made(place, pointers, told, problem_of(error))

    def _of_output(self, document: dict[str, Any], place: CardPlace, run: AskedRun) -> MadeCard:
        problem: CardProblem | None = None
        told = TaskOutput(artifacts={})
        try:
            output = make_output(document, self._access)
            output.check_producer(run.execution, run.state)
            told = output.document
        except NotAllowedError:  # each artifact that may not be read says so itself
            told = TaskOutput.from_dict(document)
            Output(TaskOutput(artifacts={}, producer=told.producer), self._access).check_producer(
                run.execution, run.state
            )
        except (StoreError, IntegrityError) as error:
            told, problem = TaskOutput.from_dict(document), problem_of(error)
        beside = {"(result)": told.result, "(manifest)": told.manifest}
        pointers = {**(told.artifacts or {})}
        pointers |= {name: each for name, each in beside.items() if isinstance(each, Pointer)}
        made = self._made(place, pointers, told, problem)
        manifest = document.get("manifest")
        if isinstance(manifest, dict) and called(manifest) == "pointer":
            made.objects[name_of_object(Pointer.from_dict(manifest))] = list(made.names)
        return made

    def _made(
        self, place: CardPlace, pointers: dict[str, Pointer], told: TaskOutput, problem: CardProblem | None = None
    ) -> MadeCard:
        output_id = self._next()
        named = list(pointers.items())[:_MOST_ARTIFACTS]
        cards = tuple(self._artifact(name, pointer) for name, pointer in named)
        producer = told.producer.to_dict() if told.producer is not None else {}
        inline = told.result and not isinstance(told.result, Pointer)
        made = MadeCard(
            card=OutputCard(
                output_id=output_id,
                label=place.label,
                visit_id=place.visit_id,
                producer=_told_producer(producer),
                artifacts=cards,
                result=_indented(told.result, _MOST_RESULT) if inline else "",
                problem=problem,
            ),
            producer=producer,
            created=min((each.created_at for each in cards if each.created_at is not None), default=None),
            left_out=len(pointers) - len(named),
        )
        for card, (_, pointer) in zip(cards, named, strict=True):
            made.names[card.artifact_id] = name_of_object(pointer)
            made.objects.setdefault(name_of_object(pointer), []).append(card.artifact_id)
        return made

    def _artifact(self, name: str, pointer: Pointer) -> ArtifactCard:
        self._artifacts += 1
        told = self._look(name, pointer)
        size = size_of_files(pointer)
        return ArtifactCard(
            artifact_id=f"a{self._artifacts}",
            name=plain(name),
            url=plain(pointer.url),
            size=pointer.size if size is None else size,
            media_type=plain(pointer.media_type),
            checksum=dict(pointer.checksum),
            version_id=pointer.version_id or "",
            created_at=read_time(pointer.created_at),
            expires_at=read_time(pointer.expires_at),
            annotations=_indented(pointer.annotations, _MOST_ANNOTATIONS) if pointer.annotations else "",
            **told,
        )

    def _look(self, name: str, pointer: Pointer) -> dict[str, Any]:
        """Return the members of a card that reading fills in."""
        if self._blind:
            return {"verified_note": "not read: nothing says what may be read"}
        try:
            look = look_inside(Artifact(pointer, self._access, name), self._budget)
        except StepoutError as error:
            return {"problem": problem_of(error), "verified_note": NOTHING_READ}
        return {
            "verified": look.verified,
            "verified_note": look.verified_note,
            "inside": look.inside,
            "problem": look.problem,
        }

    def _next(self) -> str:
        self._outputs += 1
        return f"o{self._outputs}"


def problem_of(error: StepoutError) -> CardProblem:
    """Return an error as a card shows it."""
    return CardProblem(error=error.error_name, message=plain(str(error)))


def name_of_object(pointer: Pointer) -> ObjectName:
    """Return what the object of a pointer is known by."""
    return ObjectName(pointer.bucket, pointer.key, pointer.version_id or "")


def _told_producer(producer: dict[str, Any]) -> dict[str, str] | None:
    return {plain(name): plain(str(value)) for name, value in producer.items()} or None


def _indented(value: Any, longest: int) -> str:
    text = ""
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(dump_json(value)), indent=2, ensure_ascii=False)
    return plain(shown_json(text), longest)
