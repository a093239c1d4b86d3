"""The page of the errors, from the docstrings of their classes: a summary, ``Raised by`` and ``What to do``."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import stepout
from stepout.doctor.retry import OTHER_NAMES
from stepout.schemas import errors

_BEGINNING = """\
# Errors

Each error has a name that never changes: `Stepout.` and what went wrong. Step Functions sees this name, so `Retry` and
`Catch` can match it. In Python it is the attribute `error_name` of the exception's class. An exception of your own is
reported under the name of its class, or under its own `error_name`.
[How to handle failures](../how-to/handle-failures.md). [The classes](python/errors.md).

- *Try again: yes* means that the same work can succeed later without a change. `stepout asl` writes a `Retry`
  for these.
- *No* means that something has to be changed first: code, a setting, a permission.
- A message says what failed, for which object, and what to do. It never holds a task token or a value of a document.
- In a Lambda function an exception that nobody catches is reported by the name of its class, such as
  `StoreUnavailableError`. A `Retry` on a Lambda state matches that name.
"""

_GROUPS: Final = {
    "Documents and settings": "StepoutError",
    "S3": "StoreError",
    "Bytes that are not as they should be": "IntegrityError",
    "The task": "TaskError",
    "Commands under stepout run": "CommandFailedError",
    "Pull mode and fan-in": "TaskFailedError",
    "For jobs to raise, and signals": "PermanentError",
}
"""Each part of the page, and the error that it begins with in the order of ``stepout.schemas.errors``."""

_AGAIN: Final = {
    "StepoutError": "see the error itself",
    "StoreError": "see the message",
    "ManyFailedError": "if each of the failures is one to try again: the attribute `retryable` says so",
    "IntegrityError": "perhaps",
    "SizeMismatchError": "perhaps",
    "ChecksumMismatchError": "perhaps",
    "TaskError": "see the message",
    "CommandFailedError": "no, unless you know that it helps: name such exit codes in `--retryable`",
    "TaskFailedError": "what `error` says decides",
    "ArrayIncompleteError": "yes, for children that are missing because they still run",
    "TaskInterrupted": "yes",
}
"""Where ``retryable`` alone does not say it."""

_MORE: Final = {
    "OtherProcessError": "[many processes](../how-to/many-processes.md)",
    "NotAllowedError": "[read artifacts](../how-to/read-artifacts.md)",
    "AccessDeniedError": "[policies](../how-to/asl-and-iam.md)",
    "ArtifactExpiredError": "[clean up](../how-to/clean-up.md)",
    "ArtifactTooLargeError": "[limits](../explanation/limits.md)",
    "ReadBudgetError": "[limits](../explanation/limits.md)",
    "ChecksumMismatchError": "[what is checked](../explanation/what-is-checked.md)",
    "InvalidTokenError": "[deploy](../how-to/deploy.md)",
    "TaskClosedError": "[what happens when something fails](../explanation/failure-semantics.md)",
    "OutcomeUndeliveredError": "[what happens when something fails](../explanation/failure-semantics.md)",
    "OutputTooLargeError": "[documents](documents.md)",
    "CommandFailedError": "[any language](../how-to/any-language.md)",
    "OutputMissingError": "[any language](../how-to/any-language.md)",
    "TaskFailedError": "[failures in pull mode](../how-to/pull-mode-failures.md)",
    "ArrayIncompleteError": "[array jobs](../how-to/array-jobs.md)",
    "TaskInterrupted": "[signals](../how-to/signals.md)",
}
"""The page that says more of an error."""

_SILENT: Final = {
    "Stepout.ContainerDied": (
        "The container ended by itself, was killed, or was lost with its host, and had reported nothing.",
        "Look at the cause: it has the exit code, and what ECS says. From 128 on, something killed the program.",
        "yes, if something killed it; the cause's `retryable` says so",
    ),
    "Stepout.NothingReported": (
        "The container, or the command of a worker, ended with exit code 0 and had not used its task token.",
        "Open a task in the program, or start it with `stepout run`. In pull mode, give both sides the same URL.",
        "no",
    ),
    "Stepout.OutOfMemory": (
        "The container was killed because it needed more memory than it had.",
        "Give the task definition more memory, or read and write in smaller pieces.",
        "no",
    ),
    "Stepout.TaskFailedToStart": (
        "ECS could not start the task: no capacity, no image, a network or a secret that is missing.",
        "Read the reason in the cause.",
        "yes, unless the cause's `retryable` says no: the container itself cannot be created",
    ),
}
"""What is reported of programs that said nothing themselves; no exception has these names."""


_SILENCE: Final = """
## Programs that said nothing

The [watcher](../how-to/watcher.md), a [worker](../how-to/workers.md) and `named_failure` in
[pull mode](../how-to/pull-mode.md) report these names. No exception has them.
"""


def errors_page() -> str:
    """Return the page's Markdown."""
    kinds = _in_order()
    again = {kind.error_name: _again(kind) for kind in kinds} | {name: _SILENT[name][2] for name in OTHER_NAMES}
    rows = [f"| [`{name}`](#{name.replace('.', '').lower()}) | {said} |\n" for name, said in again.items()]
    page = [_BEGINNING, "\n| name | try again |\n| --- | --- |\n", *rows]
    starts = {first: title for title, first in _GROUPS.items()}
    for kind in kinds:
        if kind.__name__ in starts:
            page.append(f"\n## {starts[kind.__name__]}\n")
        page.append(_entry(kind))
    page.append(_SILENCE)
    for name in OTHER_NAMES:
        summary, remedy, whether = _SILENT[name]
        page.append(f"\n### `{name}`\n\n{summary}\n\n- **What to do:** {remedy}\n- **Try again:** {whether}.\n")
    return "".join(page)


def _in_order() -> list[Any]:
    """Every public error, as ``stepout.schemas.errors`` orders them; the one of another module behind S3's."""
    source = inspect.getsource(errors)
    kinds = [getattr(errors, name) for name in sorted(errors.__all__, key=lambda name: source.index(f"class {name}("))]
    more = [name for name in stepout.__all__ if name.endswith("Error") and name not in errors.__all__]
    behind = kinds.index(errors.StoreUnavailableError) + 1
    return [*kinds[:behind], *(getattr(stepout, name) for name in more), *kinds[behind:]]


def _entry(kind: Any) -> str:
    summary, raised, remedy = told(kind)
    bases = " and ".join(f"`{base.__name__}`" for base in kind.__bases__)
    text = f"\n### `{kind.error_name}`\n\n{summary}\n\n- **Class:** `stepout.{kind.__name__}`, a subclass of {bases}\n"
    text += f"- **Raised by:** {raised}\n- **What to do:** {remedy}\n- **Try again:** {_again(kind)}.\n"
    return text + (f"- **More:** {_MORE[kind.__name__]}\n" if kind.__name__ in _MORE else "")


def told(kind: Any) -> tuple[str, str, str]:
    """Return what the docstring of an error's class says: the summary, who raises it, and what to do.

    Raises:
        ValueError: It has no list of ``Raised by`` and ``What to do``.
    """
    text = inspect.getdoc(kind) or ""
    found = re.search(r"^- Raised by: (.+?)^- What to do: (.+?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{kind.__name__}: its docstring has no '- Raised by:' and '- What to do:'")
    return tuple(" ".join(part.split()).replace("``", "`") for part in (text.split("\n\n")[0], *found.groups()))  # type: ignore[return-value]


def _again(kind: Any) -> str:
    return _AGAIN.get(kind.__name__) or ("yes" if kind.retryable else "no")
