"""Put, open, resolve, verify: everything that touches S3.

Where to look:

- the face: ``manager`` (``ArtifactManager``), with ``settings`` and ``run`` behind it; ``puts`` (each ``put_…``) over
  ``outbox`` (one artifact: key, upload, pointer) and ``ledger`` (which names are taken); ``writer`` (``open``),
  ``adopt``, ``directory``;
- values to bytes: ``values``, ``media``, ``images``, ``tables`` over ``arrow``;
- names: ``keys``, ``paths``, ``allow``;
- sending: ``upload`` over ``plan``, ``sources``, ``ring``, ``hasher``, ``checksums`` and ``multipart``, whose
  connections are ``warm`` beforehand; ``commit`` and ``retries`` decide what an answer means; ``progress`` and
  ``report`` tell how far it is; ``correlation`` says whether an answer can be that of its request;
- many at once: ``many`` (``put_many``, ``read_many``) over ``crew`` (threads, lazily); small objects cost less by
  ``quick``, which learns a ``sample`` and takes a cheaper route, ``native`` (obstore) or ``light`` (botocore's parts);
- the store: ``store`` (the protocol), ``s3`` with ``clients``, ``connections``, ``signing``, ``bodies``, ``s3_body``
  and ``s3_errors``, and ``memory``;
- reading: ``resolve``, ``resolved`` and ``output`` (documents), ``access`` (what a reader may do; ``cold``: first small
  reads without botocore), ``artifact`` (one artifact) over
  ``reading`` (verified, pinned; large objects through ``pipeline``, on as many connections as ``spread`` decides),
  ``reader`` (``open``, hashed by ``passes``), ``download`` (with ``reserve``), ``listing``, ``parquet``,
  ``fsspec_path``; ``interop`` and ``result_writer`` for what others wrote.

Names are imported when they are first used, so that a consumer does not load the producer, nor the other way round.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepout.artifacts.allow import ANY_BUCKET as ANY_BUCKET
    from stepout.artifacts.artifact import Artifact as Artifact
    from stepout.artifacts.budget import ReadBudget as ReadBudget
    from stepout.artifacts.manager import ArtifactManager as ArtifactManager
    from stepout.artifacts.memory import MemoryStore as MemoryStore
    from stepout.artifacts.output import Output as Output
    from stepout.artifacts.plan import TransferSettings as TransferSettings
    from stepout.artifacts.resolve import resolve_all as resolve_all
    from stepout.artifacts.resolve import resolve_artifact as resolve_artifact
    from stepout.artifacts.resolve import resolve_output as resolve_output
    from stepout.artifacts.settings import ObjectLock as ObjectLock
    from stepout.artifacts.store import Encryption as Encryption
    from stepout.artifacts.store import Store as Store
    from stepout.artifacts.store import StoreProfile as StoreProfile
    from stepout.artifacts.writer import ArtifactTextWriter as ArtifactTextWriter
    from stepout.artifacts.writer import ArtifactWriter as ArtifactWriter

# Public name to the module that defines it; the imports above say the same to type checkers.
_HOMES: Final = {
    "ANY_BUCKET": "allow",
    "Artifact": "artifact",
    "ArtifactManager": "manager",
    "ArtifactTextWriter": "writer",
    "ArtifactWriter": "writer",
    "Encryption": "store",
    "MemoryStore": "memory",
    "ObjectLock": "settings",
    "Output": "output",
    "ReadBudget": "budget",
    "Store": "store",
    "StoreProfile": "store",
    "TransferSettings": "plan",
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
    return sorted({*globals(), *_HOMES})
