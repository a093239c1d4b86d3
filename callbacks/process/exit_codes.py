"""The meaning of a command's exit code for its task. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import CommandFailedError, ConfigurationError, PermanentError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
_SIGNALLED: Final = 128
_MOST: Final = 255
_SIGKILL: Final = 9
_OURS: Final = frozenset({0, 3, 4})
"""Our own processes' exit codes: no failure; the outcome was not delivered; nobody waits any more."""


class PermanentCommandError(CommandFailedError, PermanentError):
    """The command's exit code says that trying again cannot help."""

    error_name = PermanentError.error_name


class RetryableCommandError(CommandFailedError, RetryableError):
    """The command's exit code says that trying again may help."""

    error_name = RetryableError.error_name
    retryable = True


def parse_codes(text: str | None, option: str) -> frozenset[int]:
    """Parse a list of exit codes and ranges.

    Args:
        text: Codes and ranges, separated by commas; ``None`` for none.
        option: The option's name, for messages.

    Raises:
        ConfigurationError: The text is not such a list, or a code is not from 1 to 255.

    Example:
        >>> sorted(parse_codes("2,64-66", "--permanent"))
        [2, 64, 65, 66]
    """
    codes: set[int] = set()
    for part in (text or "").split(","):
        if not (part := part.strip()):
            continue
        found = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= _MOST:
            raise ConfigurationError(f"{option}: {part!r} is no exit code from 1 to 255, nor a range such as 64-78")
        codes.update(range(first, last + 1))
    return frozenset(codes)


def code_of(returncode: int) -> int:
    """Return the exit code that a shell would show: 128 and the signal's number for a command that a signal killed.

    Example:
        >>> code_of(3), code_of(-9)
        (3, 137)
    """
    return returncode if returncode >= 0 else _SIGNALLED - returncode


def passed_on(code: int) -> int:
    """Return the exit code for the process of a failed task: the job's own code, unless that has a meaning of ours.

    To the parent process, 3 means that the work is done and its outcome undelivered, and 4 that nobody waits. If a job
    ends with 3 or 4, the job has failed and the failure was reported, so this returns 1. The system keeps only the
    lowest byte of a code, so this also returns 1 for a code whose lowest byte is 0, 3 or 4, e.g. 256 or 259.

    Args:
        code: The job's own.

    Example:
        >>> passed_on(7), passed_on(3), passed_on(4)
        (7, 1, 1)
    """
    return 1 if code & _MOST in _OURS else code


def describe(returncode: int) -> str:
    """Say how a command ended.

    Example:
        >>> describe(3), describe(-15)
        ('ended with exit code 3', 'was killed by SIGTERM (exit code 143)')
    """
    if returncode < 0:
        hint = "; often the kernel does that, for want of memory" if returncode == -_SIGKILL else ""
        return f"was killed by {_name(-returncode)} (exit code {code_of(returncode)}{hint})"
    # If a signal kills a command of a shell, the shell itself ends with 128 and the signal's number.
    told = _name(returncode - _SIGNALLED) if returncode > _SIGNALLED else ""
    return f"ended with exit code {returncode}" + (f" (as after {told})" if told.startswith("SIG") else "")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class ExitCodes:
    """The exit codes that say whether trying again can help.

    Attributes:
        permanent: Codes that are reported as ``Stepout.Permanent``.
        retryable: Codes that are reported as ``Stepout.Retryable``.
    """

    permanent: frozenset[int] = frozenset()
    retryable: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, permanent: str | None, retryable: str | None) -> ExitCodes:
        """Read both lists.

        Raises:
            ConfigurationError: A list is invalid, or a code is in both lists.
        """
        codes = cls(parse_codes(permanent, "--permanent"), parse_codes(retryable, "--retryable"))
        if both := sorted(codes.permanent & codes.retryable):
            listed = ", ".join(map(str, both))
            raise ConfigurationError(f"exit codes are both --permanent and --retryable: {listed}; choose one")
        return codes

    def failure(
        self, program: str, returncode: int, told: Mapping[str, Any], *, why: str | None = None
    ) -> CommandFailedError:
        """Return the error that a command's end stands for.

        Args:
            program: The command's first word, without its arguments, which may hold secrets.
            returncode: As ``subprocess`` has it: negative for a signal.
            told: Further members of the failure's cause, e.g. the end of standard error.
            why: The message, in place of a description of the command's end.
        """
        code = code_of(returncode)
        kind: type[CommandFailedError] = CommandFailedError
        if code in self.permanent:
            kind = PermanentCommandError
        elif code in self.retryable:
            kind = RetryableCommandError
        members: dict[str, Any] = {"exitCode": code}
        if returncode < 0:
            members["signal"] = _name(-returncode)
        return kind(f"{program} {why or describe(returncode)}", code=code, members={**members, **told})
