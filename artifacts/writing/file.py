"""Writes a file, or what a binary file object gives, as an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.artifacts.media_types import extension_of, media_type_of
from stepout.artifacts.transfer import file_objects
from stepout.artifacts.writing import values
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from stepout.artifacts.writing.planned_put import PutOptions, PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


def put_file(planner: PutPlanner, writes: Writes, name: str, path: object, options: PutOptions) -> Pointer:
    """Send a file, or a file object from its position to its end; ``ArtifactManager.put_file`` says what it raises."""
    source = None if values.is_file_object(path) else values.path_of(name, path)
    if source is None:
        file_objects.check_binary(name, path)
    origin = file_objects.name_of(path) if source is None else source
    planned = planner.plan(name, media_type_of(origin), extension_of(origin), options)
    if source is not None and source.is_dir():
        raise ConfigurationError(f"artifact {name!r}: {source} is a directory; use put_directory. Nothing was sent")
    with writes.upload(planned) as upload:
        uploaded = upload.send_stream(path) if source is None else upload.send_file(source)
        return writes.record(planned, upload, uploaded)
