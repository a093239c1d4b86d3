"""What a command of ``stepout run`` leaves behind: declared outputs become artifacts, a file becomes the result."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas import describe_problems, load_json
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, OutputMissingError, invalid_document
from stepout.schemas.many_failed import ManyFailedError
from stepout.schemas.problems import Problem
from stepout.schemas.text.json_text import SIZE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepout.artifacts.manager import ArtifactManager

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN_NAME: Final = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*)?\*[A-Za-z0-9_]*")
_MAGIC: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]")
_SHOWN: Final = 20
_FEW: Final = 4
_UNTOUCHED: Final = "from before the command, which did not write it"
_SMALL: Final = 8 << 20
"""Bytes: larger files are sent one at a time, since each needs much memory while it is sent."""

Mark = tuple[int, int, int, int]
"""A file or folder as it was: device, inode, size, and when it last changed."""

_NOTHING: Final[Mapping[Path, Mark]] = MappingProxyType({})


@dataclass(frozen=True)
class Declared:
    """One ``--output`` or ``--dir``.

    Attributes:
        name: The artifact's name, with one ``*`` where each match of a glob becomes an artifact of its own.
        path: A path, or a glob.
        folder: Whether it must be a folder.
    """

    name: str
    path: str
    folder: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.path}"


@dataclass(frozen=True)
class FoundOutput:
    """One artifact to be: its name, and where its bytes are."""

    name: str
    path: Path


def parse_outputs(outputs: Iterable[str], folders: Iterable[str]) -> tuple[Declared, ...]:
    """Read the declarations of outputs.

    Args:
        outputs: ``NAME=PATH`` each, or ``NAME_*=GLOB`` for an artifact of each match.
        folders: ``NAME=PATH`` each.

    Raises:
        ConfigurationError: A declaration is invalid, or a name is declared twice.

    Example:
        >>> [str(declared) for declared in parse_outputs(["table=out/t.csv", "part_*=out/part-*.csv"], ["plots=out/p"])]
        ['table=out/t.csv', 'part_*=out/part-*.csv', 'plots=out/p']
    """
    declared = [_declared(text, "--output", folder=False) for text in outputs]
    declared += [_declared(text, "--dir", folder=True) for text in folders]
    names = [each.name for each in declared]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"outputs of the same name: {', '.join(twice)}; each artifact needs its own")
    return tuple(declared)


def _declared(text: str, option: str, *, folder: bool) -> Declared:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ConfigurationError(f"{option} {text!r}: expected NAME=PATH, e.g. {option} table=out/table")
    if not _NAME.fullmatch(name) and (folder or not _PATTERN_NAME.fullmatch(name)):
        raise ConfigurationError(
            f"{option} {text!r}: {name!r} is no artifact name. Expected letters, digits and _ that do not begin with a "
            "digit, so that a state machine can say $.artifacts.name"
        )
    if "*" in name and not _is_glob(path):
        raise ConfigurationError(f"{option} {text!r}: the name has a *, but the path is no glob: there is one file")
    return Declared(name, path, folder)


def marks_of(declared: Sequence[Declared]) -> dict[Path, Mark]:
    """Note the files at the places of outputs before the command runs: a file that it does not write is not its output.

    Args:
        declared: From ``parse_outputs``.
    """
    paths = {Path(name) for each in declared for name in (each.path, *_globbed(each.path))}
    return {path: mark for path in paths if (mark := _mark(path)) is not None}


def _mark(path: Path) -> Mark | None:
    """Return a mark that changes with every write; a folder's mark has the latest change of any file in it."""
    try:
        own = path.stat()
    except OSError:
        return None
    latest = own.st_ctime_ns
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    latest = max(latest, os.lstat(os.path.join(folder, name)).st_ctime_ns)  # noqa: PTH118 - many
    return own.st_dev, own.st_ino, own.st_size, latest


def find_outputs(
    declared: Sequence[Declared], *, taken: Iterable[str] = (), before: Mapping[Path, Mark] = _NOTHING
) -> tuple[FoundOutput, ...]:
    """Find everything that was declared.

    Args:
        declared: From ``parse_outputs``.
        taken: Names that are artifacts already.
        before: From ``marks_of``, before the command ran.

    Raises:
        OutputMissingError: An output is missing; the message lists all missing outputs.
        InvalidDocumentError: Two files would become artifacts of one name, or a name is taken.
    """
    found: list[FoundOutput] = []
    missing: list[str] = []
    for each in declared:
        matches, fault = _matches(each, before)
        found += matches
        missing += [f"{each} ({fault})"] if fault else []
    if missing:
        raise OutputMissingError(
            f"the command succeeded, but left {len(missing)} of {len(declared)} declared outputs missing: "
            f"{_listed(missing)}. Looked in {Path.cwd()}. Nothing was sent"
        )
    if problems := _clashes(found, set(taken)):
        raise invalid_document("what the command left", problems, "Nothing was sent.")
    return tuple(found)


def find_what_is_there(
    declared: Sequence[Declared], *, taken: Iterable[str] = (), before: Mapping[Path, Mark] = _NOTHING
) -> tuple[FoundOutput, ...]:
    """Find the outputs that exist after a failure; missing ones are no error, and of equal names the first counts."""
    found: dict[str, FoundOutput] = {}
    for each in declared:
        for match in _matches(each, before)[0]:
            if match.name not in taken and _NAME.fullmatch(match.name):
                found.setdefault(match.name, match)
    return tuple(found.values())


def send_outputs(found: Sequence[FoundOutput], manager: ArtifactManager) -> None:
    """Write every output as an artifact: large ones one after the other, many small ones several at once.

    Raises:
        StoreError: One could not be written.
        OSError: One could not be read.
    """
    small = [each for each in found if each.path.is_file() and each.path.stat().st_size <= _SMALL]
    together = {each.name: each.path for each in small} if len(small) > _FEW else {}
    if together:
        try:
            manager.put_many(together)
        except ManyFailedError as error:
            failures = list(error.failures.values())
            if len({type(each) for each in failures}) == 1:
                raise failures[0] from error  # Its own name is the one that a state machine knows.
            raise
    for each in found:
        if each.path.is_dir():
            manager.put_directory(each.name, each.path)
        elif each.name not in together:
            manager.put_file(each.name, each.path)


def _matches(declared: Declared, before: Mapping[Path, Mark]) -> tuple[list[FoundOutput], str]:
    """Return the files of a declared output, and what is wrong with them."""
    path = Path(declared.path)
    if not _is_glob(declared.path) or path.exists():
        found, fault = _single(declared, path)
        return ([], f"is {_UNTOUCHED}") if found and _untouched(path, before) else (found, fault)
    there = [Path(name) for name in _globbed(declared.path) if Path(name).is_file()]
    files = [file for file in there if not _untouched(file, before)]
    if not files:
        return [], f"matches nothing but what is {_UNTOUCHED}" if there else "matches no file"
    if "*" in declared.name:
        return [FoundOutput(declared.name.replace("*", _matched(declared.path, file)), file) for file in files], ""
    if len(files) > 1:
        advice = f"write {declared.name}_*= for an artifact of each, or --dir for the folder"
        return [], f"matches {len(files)} files, and one artifact holds one: {advice}"
    return [FoundOutput(declared.name, files[0])], ""


def _single(declared: Declared, path: Path) -> tuple[list[FoundOutput], str]:
    if declared.folder and path.exists() and not path.is_dir():
        return [], "is no folder: use --output for a file"
    if not path.is_file() and not path.is_dir():
        return [], "is no regular file" if path.exists() else "is not there"
    if not os.access(path, os.R_OK):
        return [], "may not be read"
    return [FoundOutput(declared.name, path)], ""


def _untouched(path: Path, before: Mapping[Path, Mark]) -> bool:
    return path in before and before[path] == _mark(path)


def _globbed(path: str) -> list[str]:
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern


def _is_glob(path: str) -> bool:
    return glob.has_magic(path)


def _matched(pattern: str, file: Path) -> str:
    """What a glob's wild cards stand for in one of its matches, as part of a name."""
    pieces, position = [], 0
    for magic in _MAGIC.finditer(pattern):
        pieces += [re.escape(pattern[position : magic.start()]), _GROUPS.get(magic[0], "([^/])")]
        position = magic.end()
    expression = "".join(pieces) + re.escape(pattern[position:])
    found = re.fullmatch(expression, str(file)) or re.fullmatch(expression, os.path.join(".", file))  # noqa: PTH118 - Path drops the dot
    texts = [group for group in found.groups() if group] if found else [file.stem]
    return "_".join(filter(None, (re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") for text in texts)))


_GROUPS: Final[Mapping[str, str]] = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}


def _clashes(found: Sequence[FoundOutput], taken: set[str]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, Path] = {}
    for each in found:
        place = f"$.artifacts.{each.name}"
        if not _NAME.fullmatch(each.name):
            problems.append(Problem(place, "name", f"is no artifact name, and would be {each.path}'s"))
        elif each.name in taken:
            problems.append(Problem(place, "clash", f"is an artifact of the command's own already; {each.path} is not"))
        elif each.name in seen:
            problems.append(Problem(place, "clash", f"would be both {seen[each.name]} and {each.path}"))
        seen.setdefault(each.name, each.path)
    return problems


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return "; ".join(texts[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def read_result(path: Path) -> dict[str, Any]:
    """Read the command's result from the file that ``STEPOUT_RESULT`` names.

    Returns:
        The JSON object in it; ``{}`` where the file is empty or gone.

    Raises:
        InvalidDocumentError: The file holds something else; the message shows no value of it.
    """
    if not path.exists():
        return {}
    if not path.is_file() or path.stat().st_size > SIZE_LIMIT:  # To open a pipe could take for ever.
        raise InvalidDocumentError(
            f"STEPOUT_RESULT ({path}) must be a file of at most {SIZE_LIMIT:,} bytes that holds one JSON object; put "
            "what is larger into an output"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDocumentError(f"the command's result in {path} cannot be read: {error.strerror}") from error
    if not data.strip():
        return {}
    try:
        value = load_json(data)
    except InvalidDocumentError as error:
        told = describe_problems(error.problems)
        raise InvalidDocumentError(
            f"STEPOUT_RESULT ({path}) holds no JSON that can be reported: {told}. Write one JSON object into it, "
            'e.g. {"rows": 3}',
            error.problems,
        ) from None
    if not isinstance(value, dict):
        problem = Problem("$.result", "type", "is no object")
        raise InvalidDocumentError(
            f'STEPOUT_RESULT ({path}) must hold one JSON object, e.g. {{"rows": 3}}, not a bare value', [problem]
        )
    return value
