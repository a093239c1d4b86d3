"""The one report of many artifacts of which some could not be written or read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.schemas.errors import StoreError
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas.pointer import Pointer

_SHOWN = 5
_ONE = 700


class ManyFailedError(StoreError):
    """Some of many artifacts could not be written or read.

    - Raised by: ``put_many`` and ``read_many``, at their end.
    - What to do: Look at ``failures``, which has an error for each name. ``retryable`` says whether trying again may
      help against all.

    Attributes:
        failures: What happened to each that failed, by name.
        pointers: Those that were written, by name; empty where artifacts were read.
        stopped: Whether the rest was not tried, because it would have failed alike.
    """

    error_name = "Stepout.ManyFailed"

    def __init__(
        self,
        what: str,
        failures: Mapping[str, Exception],
        *,
        pointers: Mapping[str, Pointer] | None = None,
        done: int = 0,
        stopped: bool = False,
    ) -> None:
        super().__init__(_many_failed(what, failures, done, stopped=stopped))
        self.failures: Mapping[str, Exception] = dict(failures)
        self.pointers: Mapping[str, Pointer] = dict(pointers or {})
        self.stopped = stopped

    @property
    def retryable(self) -> bool:  # type: ignore[override] # one report's own, where the others are their class's
        """Whether every failure is one that trying again may help against."""
        return all(getattr(error, "retryable", False) is True for error in self.failures.values())

    def __reduce__(self) -> tuple[object, ...]:
        return _many_again, (str(self), self.failures, self.pointers, self.stopped)


def _many_failed(what: str, failures: Mapping[str, Exception], done: int, *, stopped: bool) -> str:
    told = (f"{name}: {type(error).__name__}: {shown(error, _ONE)}" for name, error in list(failures.items())[:_SHOWN])
    more = len(failures) - _SHOWN
    rest = f"; and {more:,} more, in failures" if more > 0 else ""
    end = ". The rest was not tried: it would have failed alike" if stopped else ""
    return f"{what}: {len(failures):,} failed, {done:,} done. {'; '.join(told)}{rest}{end}"


def _many_again(
    message: str, failures: Mapping[str, Exception], pointers: Mapping[str, Pointer], stopped: bool
) -> ManyFailedError:
    again = ManyFailedError("", failures, pointers=pointers, stopped=stopped)
    again.args = (message,)
    return again
