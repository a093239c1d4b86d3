"""Keep a task output within its budget: what does not fit goes to the store, and a pointer to it stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.schemas.errors import ConfigurationError, OutputTooLargeError
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.schemas.identity import RunIdentity

DEFAULT_BUDGET: Final = 64 * 1024
"""In bytes of UTF-8. Step Functions merges an output into its state, and 262,144 bytes are fatal there."""

MAX_BUDGET: Final = 250 * 1024

_STATE_BYTES: Final = 262_144
"""The most that a state takes or returns (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html)."""

_STATE_ROOM: Final = 32 * 1024
"""Bytes of a Map's output that are left to what is not its children's: what it passes on of its input."""

_MANIFEST_ROOM: Final = 1_024
"""Bytes for what a spilled document has besides its producer: a pointer whose key has some 500."""

RESULT_STEM: Final = "stepout-result"
OUTPUT_STEM: Final = "stepout-output"

Spill = Literal["auto", "never"]

_log = logger("stepout.schemas.spill")


def measure(output: TaskOutput) -> int:
    """Return the size of an output's wire form in bytes of compact UTF-8.

    >>> measure(TaskOutput()), measure(TaskOutput(result={"a": "é"}))
    (37, 57)
    """
    return len(dump_json(output.to_dict()))


def check_budget(budget: int) -> int:
    """Return the budget if it can be one.

    Raises:
        ConfigurationError: It is not from 1 to ``MAX_BUDGET`` bytes.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= MAX_BUDGET:
        message = (
            f"the output budget must be from 1 to {MAX_BUDGET:,} bytes (Step Functions ends an execution at 262,144, "
            "its state included); set STEPOUT_OUTPUT_BUDGET or the argument within that"
        )
        raise ConfigurationError(message)
    return budget


def fan_in_budget(children: int, producer: RunIdentity | None = None) -> int:
    """Return the budget of each output of an inline Map, where all of them come together in one state.

    Args:
        children: How many outputs come together, at most.
        producer: Of such an output, as far as it is known.

    Raises:
        ConfigurationError: So many do not fit, even if each of them is spilled.

    >>> fan_in_budget(5), fan_in_budget(40)
    (45874, 5733)
    """
    if isinstance(children, bool) or not isinstance(children, int) or children < 1:
        raise ConfigurationError("the fan-in (STEPOUT_FAN_IN) must be a whole number of at least 1")
    # [a,b,c]: a comma for each but the last, and two brackets.
    share = (_STATE_BYTES - _STATE_ROOM - 1 - children) // children
    least = measure(TaskOutput(artifacts=None, producer=producer)) + _MANIFEST_ROOM
    if share < least:
        room = _STATE_BYTES - _STATE_ROOM
        raise ConfigurationError(
            f"STEPOUT_FAN_IN is {children:,}: each of so many outputs may have {max(share, 0):,} bytes of the {room:,} "
            f"that one state holds, and a spilled one takes about {least:,}. Use a Distributed Map with a "
            "ResultWriter, and read its outputs with stepout.gather"
        )
    return share


def fit(
    output: TaskOutput,
    *,
    write: Callable[[str, Mapping[str, Any]], Pointer],
    budget: int = DEFAULT_BUDGET,
    spill: Spill = "auto",
    document: Mapping[str, Any] | None = None,
) -> TaskOutput:
    """Make an output fit its budget.

    Over the budget, an inline ``result`` moves to the store if that is enough; otherwise the whole document does, and
    a manifest stands in for it.

    Args:
        output: The output, valid.
        write: Writes a JSON object under a stem (``stepout-result``, ``stepout-output``) and returns its pointer.
        budget: In bytes of the document's compact UTF-8; exactly that many fit.
        spill: ``"never"`` to raise instead of writing.
        document: The output's wire form, if the caller has made it already.

    Returns:
        ``output`` itself where it fits, otherwise the one to report.

    Raises:
        ConfigurationError: The budget is out of bounds.
        OutputTooLargeError: The output is over its budget, and was not to be spilled or cannot be made to fit.
        InvalidDocumentError: The output holds something that is not JSON.
    """
    check_budget(budget)
    size = measure(output) if document is None else len(dump_json(document))
    if size <= budget:
        return output
    if spill == "never":
        message = (
            f"the task output has {size:,} bytes, its budget is {budget:,}, and spill is never; nothing was written"
        )
        raise OutputTooLargeError(f"{message}. Put large values into artifacts, raise the budget, or let it spill")
    if output.manifest is not None or measure(TaskOutput(artifacts=None, producer=output.producer)) > budget:
        raise _never_fits(size, budget)
    spilled = _without_result(output, write, budget)
    return spilled if measure(spilled) <= budget else _manifest(spilled, write, budget)


def _without_result(output: TaskOutput, write: Callable[[str, Mapping[str, Any]], Pointer], budget: int) -> TaskOutput:
    if output.result is None or isinstance(output.result, Pointer) or measure(replace(output, result=None)) > budget:
        return output  # Moving the result alone would cost a request and a hop, and not be enough.
    _log.info("the task output is over its budget of %d bytes: its result was written to the store", budget)
    return replace(output, result=write(RESULT_STEM, output.to_dict()["result"]))


def _manifest(output: TaskOutput, write: Callable[[str, Mapping[str, Any]], Pointer], budget: int) -> TaskOutput:
    whole = write(OUTPUT_STEM, output.to_dict())
    manifest = TaskOutput(manifest=whole, artifacts=None, producer=output.producer, traceparent=output.traceparent)
    size = measure(manifest)
    if size > budget:
        raise _never_fits(size, budget)
    message = (
        "the task output is over its budget of %d bytes and was written to the store; its manifest is reported "
        "instead. ASL paths into $.artifacts no longer work for this output; stepout's consumers follow the manifest"
    )
    _log.warning(message, budget)
    return manifest


def _never_fits(size: int, budget: int) -> OutputTooLargeError:
    message = (
        f"the task output cannot be made to fit its budget of {budget:,} bytes: {size:,} bytes remain after spilling "
        "what can be spilled. Shorten what its producer block holds, or raise the budget (where STEPOUT_FAN_IN makes "
        "it: use a Distributed Map with a ResultWriter)"
    )
    return OutputTooLargeError(message)
