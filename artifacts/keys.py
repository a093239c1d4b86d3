"""Where an artifact goes: keys as pure functions of a prefix, a run and a name.

``{prefix}/{stateMachine}/{execution}/{state}[/{mapIndex}]/{attempt}-{nonce}/{name}{ext}``, at most 1,024 bytes of
UTF-8, S3's limit (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html). Where a parent's execution
is known, machine and execution are the parent's, and the child's own execution follows: ``…/{execution}/{child}/…``.

Everything after the prefix is made of ``A-Z a-z 0-9 . _ -``. A text that had to be changed for that, or shortened,
ends in a hyphen and ten hex digits of its own SHA-256, so that texts which differ stay apart; a text that looks like
such a result gets them too. No segment has more than 255 bytes.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

from stepout.schemas import RunIdentity  # noqa: TC001 - the doctests use it
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.problems import Problem

Layout = Literal["run", "fixed"]

KEY_LIMIT: Final = 1024
"""Bytes of UTF-8 in a key, at most: S3's limit."""

PREFIX_LIMIT: Final = 768
"""Bytes of UTF-8 in a prefix, at most: what is left must hold a run's folder and an artifact's name."""

# Servers that keep objects as files (SeaweedFS, MinIO) take names of at most 255 bytes between two slashes.
_NAME_LIMIT: Final = 255
_NAME_ROOM: Final = 128
_SEGMENT_LIMIT: Final = 96
_DIGITS: Final = 10
_SUFFIX_LIMIT: Final = 33

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEM = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+")
_SUFFIX = re.compile(r"(?:\.[A-Za-z0-9_-]{1,16}){1,2}|")
_CLEAN = re.compile(r"(?!\.)[A-Za-z0-9._-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LOOKS_HASHED = re.compile(rf".*-[0-9a-f]{{{_DIGITS}}}")
_EXECUTION = re.compile(r"arn:[^:]*:states:[^:]*:[^:]*:(?:execution|express|mapRun):([^:/]+)([:/].+)")
# "Characters to avoid" of S3's guidelines: they need escaping, or end somewhere as something else.
_AVOID = re.compile(r'[\\{}^%`\[\]"<>~#|]')


def check_name(name: object) -> str:
    """Return an artifact's name if a state machine can say it.

    Raises:
        InvalidDocumentError: It is not a text that matches ``[A-Za-z_][A-Za-z0-9_]*``. Nothing was read or sent.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    shown = repr(name) if isinstance(name, str) and len(name) <= _SEGMENT_LIMIT else f"of type {type(name).__name__}"
    msg = (
        f"no artifact name: {shown}. Expected letters, digits and _ that do not begin with a digit, so that a state "
        "machine can say $.artifacts.name; nothing was read or sent"
    )
    raise InvalidDocumentError(msg, [Problem("$.artifacts", "name", "holds a name that is invalid")])


def check_suffix(suffix: str) -> str:
    """Return a file extension if a key may end in it, for example ``".csv"`` or ``".tar.gz"``.

    Raises:
        ConfigurationError: It is not one or two short extensions with their dots.
    """
    if not (isinstance(suffix, str) and _SUFFIX.fullmatch(suffix)):
        msg = f"suffix {suffix!r}: expected a file extension such as '.csv' or '.tar.gz'; nothing was read or sent"
        raise ConfigurationError(msg)
    return suffix


def check_prefix(prefix: str) -> str:
    """Return a prefix without the slash at its end.

    Args:
        prefix: Segments joined by ``/``, possibly with one ``/`` at the end; ``""`` is the bucket's root. Printable
            Unicode is fine, apart from the characters that S3 says to avoid.

    Raises:
        ConfigurationError: It has an empty, ``.`` or ``..`` segment, a character that is not safe, or too many bytes.
    """
    if not isinstance(prefix, str):
        raise ConfigurationError(f"the prefix is of type {type(prefix).__name__}: expected text; nothing was sent")
    bare = prefix.removesuffix("/")
    if not bare:
        fault = "is a slash alone; leave it out for the bucket's root" if prefix else None
    else:
        fault = _prefix_fault(bare)
    if fault is not None:
        shown = prefix if len(prefix) <= _SEGMENT_LIMIT else prefix[:_SEGMENT_LIMIT] + "…"
        raise ConfigurationError(f"the prefix {shown!r} {fault}; nothing was sent")
    return bare


def _prefix_fault(bare: str) -> str | None:
    if not bare.isprintable() or _AVOID.search(bare):
        return 'has a character that is not safe in keys (control characters, \\ { } ^ % ` [ ] " < > ~ # |)'
    segments = bare.split("/")
    if "" in segments:
        return "has an empty segment: no slash at the beginning, none doubled"
    if {".", ".."} & set(segments):
        return "has a segment '.' or '..', which would leave it"
    size = len(bare.encode())
    if size > PREFIX_LIMIT:
        return f"has {size:,} bytes of UTF-8; {PREFIX_LIMIT} are allowed, since a whole key has {KEY_LIMIT:,}"
    return None


def safe_segment(text: str, limit: int = _SEGMENT_LIMIT) -> str:
    """Return one segment of a key for any text; texts that differ give segments that differ.

    Args:
        text: Anything, lone surrogates included.
        limit: Bytes at most, 12 or more.

    >>> safe_segment("Mask")
    'Mask'
    >>> safe_segment("../etc")
    'etc-f7f9121fdb'
    """
    if len(text) <= limit and _CLEAN.fullmatch(text) and not _LOOKS_HASHED.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    readable = _UNSAFE.sub("-", text).lstrip(".-")[: limit - _DIGITS - 1].rstrip("-.")
    return f"{readable}-{digest}" if readable else digest.rjust(_DIGITS + 1, "-")


def execution_parts(execution: str) -> tuple[str, str]:
    """Split ``$$.Execution.Id`` into the state machine's name and the execution's.

    Args:
        execution: The ARN of an execution (standard, express, or of a map run or its children); any other text counts
            as an execution of no state machine in particular.

    Returns:
        The names as they are in the ARN.

    >>> execution_parts("arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c")
    ('Segment', '7f3c')
    """
    match = _EXECUTION.fullmatch(execution)
    if match is None:
        return "executions", execution
    # A child of a map run is "machine/label:uuid": the label goes to the execution, so that one prefix has them all.
    return match[1], match[2].removeprefix(":")


def run_folder(prefix: str, run: RunIdentity, *, layout: Layout = "run") -> str:
    """Return the folder of everything that one run writes, without a slash at its end.

    >>> of = "arn:aws:states:eu-west-1:123456789012:execution"
    >>> run_folder("runs", RunIdentity(parent_execution=f"{of}:Segment:7f3c", execution=f"{of}:Tile:9", nonce="ab"))
    'runs/Segment/7f3c/9/task/0-ab'

    Args:
        prefix: As ``check_prefix`` returned it.
        run: The resolved identity; without an execution, its ``run_id`` stands in.
        layout: ``"run"`` tells processes apart by the nonce; ``"fixed"`` leaves the nonce out, so that the key can be
            computed by others, and a second process of the same attempt collides with the first.

    Raises:
        ConfigurationError: There is no such layout.
    """
    if layout not in ("run", "fixed"):
        raise ConfigurationError(f"layout is {layout!r}: expected 'run' or 'fixed'")
    machine, execution = execution_parts(run.execution) if run.execution else ("standalone", run.run_id or "run")
    executions = [machine, execution]
    if run.parent_execution is not None and run.parent_execution != run.execution:
        executions = [*execution_parts(run.parent_execution), execution]
    attempt = str(run.attempt or 0)
    last = attempt if layout == "fixed" else f"{attempt}-{run.nonce or ''}"
    index = [] if run.map_index is None else [run.map_index]
    segments = [*executions, run.state or "task", *index, last]
    room = KEY_LIMIT - len(prefix.encode()) - _NAME_ROOM - len(segments) - 1
    limit = min(_SEGMENT_LIMIT, room // len(segments))
    return "/".join([prefix] * bool(prefix) + [safe_segment(segment, limit) for segment in segments])


def artifact_key(folder: str, name: str, suffix: str = "") -> str:
    """Return the key of an artifact.

    Args:
        folder: From ``run_folder``.
        name: The artifact's name; see ``check_name``.
        suffix: See ``check_suffix``.
    """
    key = f"{folder}/{check_name(name)}{check_suffix(suffix)}"
    # A name has no character that would have to be changed, and no hyphen as in what was changed.
    if len(name) + len(suffix) <= _NAME_LIMIT and len(key.encode()) <= KEY_LIMIT:
        return key
    return _key(folder, name, suffix)


def document_key(folder: str, stem: str) -> str:
    """Return the key of a JSON document beside the artifacts.

    Raises:
        ConfigurationError: The stem could be an artifact's name.
    """
    if not _STEM.fullmatch(stem):
        msg = f"document stem {stem!r}: expected words joined by hyphens, which no artifact name has"
        raise ConfigurationError(msg)
    return _key(folder, stem, ".json")


def blocks_key(folder: str, sha256: str) -> str:
    """Return the key of a list of blocks: its name is its content's, and has a hyphen, as no artifact's name does.

    Args:
        folder: From ``run_folder``.
        sha256: The list's digest, hex.
    """
    return f"{folder}/blocks-{sha256}"


def _key(folder: str, name: str, suffix: str = "") -> str:
    room = KEY_LIMIT - len(folder.encode()) - 1 - len(suffix)
    return f"{folder}/{safe_segment(name, min(room, _NAME_LIMIT - len(suffix)))}{suffix}"


def files_folder(folder: str, name: str) -> str:
    """Return the folder of the keys of a directory artifact's files, without a slash at its end.

    Args:
        folder: From ``run_folder``.
        name: The artifact's name.
    """
    base = _key(folder, name) if len(folder) + len(name) + 1 <= KEY_LIMIT - 64 else None
    return base or f"{folder}/{safe_segment(name, 32)}"


def file_key(folder: str, path: str) -> str:
    """Return the key of one file of a directory artifact.

    Args:
        folder: From ``files_folder``.
        path: Relative, with ``/`` between its segments.

    Returns:
        ``{folder}/{path}``, each segment made safe; a path that is too long becomes one shortened segment.
    """
    room = KEY_LIMIT - len(folder.encode()) - 1
    plain = "/".join([safe_segment(segment, _NAME_LIMIT) for segment in path.split("/")])
    return f"{folder}/{plain}" if len(plain) <= room else f"{folder}/{safe_segment(path, min(room, _NAME_LIMIT))}"


def dataset_key(folder: str, name: str, path: str) -> str:
    """Return the key of one file of a dataset: its path stays as it is, since engines read the partitions from it.

    Args:
        folder: From ``run_folder``.
        name: The artifact's name.
        path: Relative, Hive's: ``day=2026-01-01/part-00000.parquet``.

    Raises:
        ConfigurationError: The key, or a segment of it, would be too long.
    """
    key = f"{_key(folder, name)}/{path}"
    size, longest = len(key.encode()), max(len(segment.encode()) for segment in path.split("/"))
    if size > KEY_LIMIT or longest > _NAME_LIMIT:
        msg = f"a file of the dataset {name!r} would have a key of {size:,} bytes, with a segment of {longest:,}"
        raise ConfigurationError(
            f"{msg}: S3 takes {KEY_LIMIT:,}, and stores that keep files {_NAME_LIMIT}. Use shorter partition values, a "
            "shorter name or a shorter prefix. Nothing can be read of what was sent"
        )
    return key
