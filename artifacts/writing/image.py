"""Writes an image, encoded, as an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.artifacts.formats import images
from stepout.artifacts.writing.planned_put import PutOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.writing.planned_put import PutPlanner
    from stepout.artifacts.writing.writes import Writes
    from stepout.schemas import Pointer


def put_image(  # noqa: PLR0913, PLR0917 - what a put needs
    planner: PutPlanner, writes: Writes, name: str, image: object, kind: str, options: Mapping[str, Any]
) -> Pointer:
    """Encode an image and send it; ``ArtifactManager.put_image`` says what it raises.

    Args:
        planner: See ``put_file``, as for what follows.
        writes: The manager's.
        name: The artifact's name.
        image: A PIL image or a numpy array.
        kind: ``"png"``, ``"jpeg"``, ``"webp"`` or ``"tiff"``.
        options: Those of every put, and those of the encoder, which are all others.
    """
    ours: Any = {key: value for key, value in options.items() if key in PutOptions.__annotations__}
    save = {key: value for key, value in options.items() if key not in ours}
    wanted = images.check_format(kind)
    images.check_options(wanted, save)
    planned = planner.plan(name, f"image/{wanted}", f".{wanted}", ours, ("image",))
    with writes.upload(planned) as upload:
        encoded = images.encode_image(image, wanted, **save)
        uploaded = upload.send_buffer(encoded.data)
        return writes.record(planned, upload, uploaded, {"image": encoded.annotation})
