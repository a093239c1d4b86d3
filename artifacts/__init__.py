"""Put, open, resolve, verify: everything that touches S3.

Three front doors, and the rooms behind them:

- ``manager`` (``ArtifactManager``: every put) over ``writing``: from a value to a committed artifact;
- ``resolve`` (``resolve`` and its siblings) over ``reading``: from a pointer to verified bytes;
- ``gather`` over ``reading``: the outputs of many tasks, one by one;
- ``transfer``: bytes on their way;
- ``formats``: images and tables, to bytes and back;
- ``s3``: one bucket through botocore;
- what they share: ``store`` (the protocol) and ``memory``, ``checksums``, ``media_types``, ``keys``, ``paths``,
  ``allow``, ``listing`` (a directory's document), ``run``, ``read_limit``; and the room
  ``process``: its memory and connections, and what was learned of servers.

Names are imported when they are first used, so that a consumer does not load the producer, nor the other way round.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepout.artifacts.allow import ANY_BUCKET as ANY_BUCKET
    from stepout.artifacts.manager import ArtifactManager as ArtifactManager
    from stepout.artifacts.memory import MemoryStore as MemoryStore
    from stepout.artifacts.reading.artifact import Artifact as Artifact
    from stepout.artifacts.reading.budget import ReadBudget as ReadBudget
    from stepout.artifacts.reading.output import Output as Output
    from stepout.artifacts.resolve import resolve_all as resolve_all
    from stepout.artifacts.resolve import resolve_artifact as resolve_artifact
    from stepout.artifacts.resolve import resolve_output as resolve_output
    from stepout.artifacts.store import Store as Store
    from stepout.artifacts.store_writes import Encryption as Encryption
    from stepout.artifacts.store_writes import StoreProfile as StoreProfile
    from stepout.artifacts.transfer.plan import TransferSettings as TransferSettings
    from stepout.artifacts.writing.options import ObjectLock as ObjectLock
    from stepout.artifacts.writing.writer import ArtifactTextWriter as ArtifactTextWriter
    from stepout.artifacts.writing.writer import ArtifactWriter as ArtifactWriter

# Public name to the module that defines it; the imports above say the same to type checkers.
_HOMES: Final = {
    "ANY_BUCKET": "allow",
    "Artifact": "reading.artifact",
    "ArtifactManager": "manager",
    "ArtifactTextWriter": "writing.writer",
    "ArtifactWriter": "writing.writer",
    "Encryption": "store_writes",
    "MemoryStore": "memory",
    "ObjectLock": "writing.options",
    "Output": "reading.output",
    "ReadBudget": "reading.budget",
    "Store": "store",
    "StoreProfile": "store_writes",
    "TransferSettings": "transfer.plan",
    "resolve_all": "resolve",
    "resolve_artifact": "resolve",
    "resolve_output": "resolve",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
