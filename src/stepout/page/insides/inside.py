"""One look into one artifact: whatever goes wrong becomes a part of its card, and the page is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.artifacts.formats.images import require_pillow
from stepout.artifacts.reading.tables.parquet import require_pyarrow
from stepout.page.budget import PageBudgetError
from stepout.page.insides.dataset import look_at_dataset
from stepout.page.insides.image import look_at_image
from stepout.page.insides.kinds import described, kind_of, kind_of_start
from stepout.page.insides.look import NOTHING_READ, Look, ReadForLook
from stepout.page.insides.table import look_at_table
from stepout.page.insides.text import as_text, look_at_json, look_at_start, look_at_text
from stepout.page.insides.tree import look_at_directory
from stepout.page.model import CardProblem
from stepout.schemas.errors import ConfigurationError, StepoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.artifacts.reading.artifact import Artifact
    from stepout.page.budget import PageBudget
    from stepout.page.insides.kinds import Kind


def look_inside(artifact: Artifact, budget: PageBudget) -> Look:
    """Look into an artifact, as far as the budget allows.

    Args:
        artifact: From ``resolve``: the allow-list, the client and ``verify`` are those that it was resolved with.
        budget: What may be read; everything that is read is counted there.

    Returns:
        What was found. No error of reading leaves this function: it becomes the ``problem``.
    """
    read = None
    try:
        read = ReadForLook(artifact, budget)
        return _look_as(kind_of(artifact.pointer), read)
    except PageBudgetError as error:
        return Look(verified_note=error.sentence)
    except StepoutError as error:
        problem = CardProblem(error=error.error_name, message=str(error))
    except MemoryError:
        problem = CardProblem(error="Stepout.ArtifactTooLarge", message="There was not enough memory to look into it.")
    except Exception as error:  # noqa: BLE001 - decoders meet hostile bytes with errors of every kind; the page is made
        message = f"It was read, but could not be looked into ({type(error).__name__})."
        problem = CardProblem(error="Stepout.Undecodable", message=message)
    return Look(problem=problem, verified_note=NOTHING_READ) if read is None else read.failed(problem)


def _look_as(kind: Kind, read: ReadForLook) -> Look:
    if kind in _NEEDED:
        try:
            _NEEDED[kind]()
        except ConfigurationError as error:  # of whoever makes the page: nothing is wrong with the artifact
            return Look(verified_note=f"Not read: {error}.")
    return _LOOKS[kind](read)


def _look_at_unknown(read: ReadForLook) -> Look:
    """Look at the first bytes, where nothing else says what it is."""
    start, look = look_at_start(read)
    kind, words = kind_of_start(start)
    if kind == "image":
        return _look_as(kind, read)
    if kind == "text" and start:
        return as_text(read, start, look)
    if not start:
        return look.noting("It is empty.")
    return look.noting(f"Its media type says nothing; by its first bytes it is {words}. Nothing of it is shown.")


def _look_at_other(read: ReadForLook) -> Look:
    return Look(verified_note=described(read.pinned.pointer))


_NEEDED: Mapping[Kind, Callable[[], object]] = {
    "image": require_pillow,
    "table": require_pyarrow,
    "dataset": require_pyarrow,
}
_LOOKS: Mapping[Kind, Callable[[ReadForLook], Look]] = {
    "image": look_at_image,
    "table": look_at_table,
    "dataset": look_at_dataset,
    "directory": look_at_directory,
    "json": look_at_json,
    "text": look_at_text,
    "unknown": _look_at_unknown,
    "other": _look_at_other,
}
