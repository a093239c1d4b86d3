"""How arguments are read: nothing is guessed, and whatever is not known says what it may have been meant to be."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LONGEST: Final = 4_000
_NUMBER: Final = re.compile(r"-\d+(?:\.\d*)?|-\.\d+")


class MisuseError(Exception):
    """The arguments could not be read, which has been said."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CommandParser(argparse.ArgumentParser):
    """Takes options as they are spelt, never by their beginning; its subcommands' parsers are of the same kind.

    What is wrong is printed with the command's usage, and raised: ``stepout run`` then tells the state that waits for
    the outcome, before the process ends.

    Attributes:
        helps: Makes the parser whose help is shown where the first argument is this word; else it is this one's.
    """

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **{"allow_abbrev": False, **options})
        self._words: Sequence[str] = ()
        self.helps: Mapping[str, Callable[[], argparse.ArgumentParser]] = {}

    def print_help(self, file: Any = None) -> None:
        """Print the help of what the first argument names, where it has one of its own."""
        make = self.helps.get(next(iter(self._words), ""))
        if make is None:
            super().print_help(file)
        else:
            make().print_help(file)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the arguments, and refuse those that are left over here, where they are known to belong."""
        self._words = list(args or ())
        found, left = super().parse_known_args(args, namespace)
        if left:
            options = [word for word in left if _is_option(word)]
            self.error(self._unknown(options[0]) if options else f"unexpected argument {left[0]!r}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            MisuseError: Always.
        """
        strange = self._first_unknown()
        if strange is not None and not message.startswith("unknown option"):  # what else is wrong follows from it
            message = f"{self._unknown(strange)} ({message})"
        message = shown(message, _LONGEST)
        try:
            super().error(message)
        except SystemExit:
            raise MisuseError(message) from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError:
            known = [str(each) for each in action.choices or ()]
            message = f"invalid choice {str(value)!r}{did_you_mean(str(value), known)} (choose from {', '.join(known)})"
            raise argparse.ArgumentError(action, message) from None

    def _unknown(self, word: str) -> str:
        option = word.partition("=")[0]
        for command, parser in self._commands().items():
            if option in parser._option_string_actions:  # noqa: SLF001 - of this very class
                return f"unknown option {option}: it belongs behind the command, {self.prog} {command} {option}"
        return f"unknown option {option}{did_you_mean(option, self._option_string_actions)}"

    def _commands(self) -> dict[str, CommandParser]:
        choices = next((each.choices for each in self._actions if each.nargs == argparse.PARSER), None)
        return {name: each for name, each in dict(choices or {}).items() if isinstance(each, CommandParser)}

    def _first_unknown(self) -> str | None:
        """Return the first word that looks like an option and is unknown, before another command's own words begin."""
        rest = any(each.nargs in {argparse.PARSER, argparse.REMAINDER} for each in self._actions)
        is_value = False
        for word in self._words:
            if word == "--" or (rest and not is_value and not _is_option(word)):
                return None
            option, equals, _ = word.partition("=")
            action = self._option_string_actions.get(option)
            if _is_option(word) and action is None and word[:2] not in self._option_string_actions:
                return word
            is_value = action is not None and not equals and action.nargs is None
        return None


def _is_option(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and " " not in word and not _NUMBER.fullmatch(word)
