"""What decoding an image takes, from what its file declares: found out before Pillow allocates any of it.

The figures are upper bounds of memory in bytes, pixels in memory and the buffers of Pillow's decoders together.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import PIL.Image

# Bytes that Pillow keeps for a pixel; 4 for every mode that is not here (ImagingNewPrologue in its Storage.c).
_PIXEL: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_OTHER_PIXEL: Final = 4
_WEBP_PIXEL: Final = 16  # libwebp's two canvases, what it decodes into, and the copy that becomes the image
_COEFFICIENT: Final = 2  # a progressive JPEG's are all kept until the last scan

# TIFF: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2; BigTIFF adds 16 to 18.
_TYPE_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_AS_BYTES: Final = (1, 2, 6, 7)  # kept as bytes or text; the others become Python numbers
_NUMBER: Final = 48  # a Python number and its place in a tuple
_RATIONAL: Final = {5: 400, 10: 400}
_DIRECTORIES: Final = (0x014A, 0x8769, 0x8825, 0xA005)  # SubIFDs, Exif, GPS, Interoperability
_MOST_DIRECTORIES: Final = 64
_WIDTH, _ROWS, _SAMPLES, _TILE_WIDTH, _TILE_ROWS, _BITS = 256, 278, 277, 322, 323, 258

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNK: Final = 1 << 20  # PIL.PngImagePlugin.MAX_TEXT_CHUNK, which every text and profile is unpacked up to
_DEFLATE_RATIO: Final = 1_032
_JPEG_BLOCKS: Final = (b"Exif\0\0", b"MPF\0")


def decoding_bytes(picture: PIL.Image.Image, size: int, *, turned: bool) -> int:
    """Return what loading an opened image takes.

    Args:
        picture: Opened, not loaded.
        size: The file's size, in bytes.
        turned: Whether it has to be transposed afterwards.
    """
    pixels = picture.width * picture.height
    image = pixels * _PIXEL.get(picture.mode, _OTHER_PIXEL)
    extras = {"TIFF": _tiff_extra, "WEBP": _webp_extra, "JPEG": coefficient_bytes, "MPO": coefficient_bytes}
    extra = extras.get(picture.format or "", lambda _: 0)
    return image * (2 if turned else 1) + extra(picture) + (size if picture.format == "TIFF" else 0)


def coefficient_bytes(picture: PIL.Image.Image) -> int:
    """Return what the coefficients of an opened JPEG take while it is loaded, in whatever size it is decoded."""
    if not (picture.info.get("progressive") or picture.info.get("progression")):
        return 0
    return picture.width * picture.height * _COEFFICIENT * len(picture.getbands())


def metadata_bytes(data: bytes | bytearray | memoryview) -> int:
    """Return what the texts, profiles and tags of an image file take when it is opened.

    Args:
        data: The file.
    """
    view = memoryview(data)
    start = bytes(view[:16])
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return tag_bytes(view)
    if start.startswith(b"\xff\xd8"):
        return sum(tag_bytes(view[begin:end]) for begin, end in _jpeg_blocks(view))
    if start.startswith(_PNG):
        return sum(_png_texts(view))
    return 0


def tag_bytes(block: bytes | bytearray | memoryview) -> int:
    """Return what the tags of a TIFF file, or of EXIF, take in memory; several may share the same bytes of the file.

    Args:
        block: From its byte order on; ``Exif`` and two zeros may come first.
    """
    view = memoryview(block)
    if bytes(view[:6]) == b"Exif\0\0":
        view = view[6:]
    order = {b"II": "<", b"MM": ">"}.get(bytes(view[:2]))
    if order is None or len(view) < 8:  # noqa: PLR2004 - its header
        return 0
    big = 0x2B in view[2:4]  # noqa: PLR2004 - BigTIFF's 43
    waiting = [_number(view, 8 if big else 4, order, big)]
    seen: set[int] = set()
    total = 0
    while waiting and len(seen) < _MOST_DIRECTORIES:
        offset = waiting.pop()
        if offset in seen:
            continue
        seen.add(offset)
        for tag, kind, count, value in _entries(view, offset, order, big):
            if tag in _DIRECTORIES and kind in (4, 13, 18):
                waiting.append(value)
            size = min(count * _TYPE_BYTES.get(kind, 0), len(view))
            total += size
            if kind not in _AS_BYTES and kind in _TYPE_BYTES:
                total += size // _TYPE_BYTES[kind] * _RATIONAL.get(kind, _NUMBER)
    return total


def _entries(view: memoryview, offset: int, order: str, big: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type, count and value of a directory's entries, as far as there are bytes of them."""
    shape = struct.Struct(order + ("HHQQ" if big else "HHLL"))
    head = 8 if big else 2
    if not 0 < offset <= len(view) - head:
        return
    found = struct.unpack_from(order + ("Q" if big else "H"), view, offset)[0]
    room = (len(view) - offset - head) // shape.size
    for index in range(min(found, room, 65_536)):
        yield shape.unpack_from(view, offset + head + index * shape.size)


def _number(view: memoryview, offset: int, order: str, big: bool) -> int:
    width = 8 if big else 4
    return int.from_bytes(view[offset : offset + width], "little" if order == "<" else "big")


def _jpeg_blocks(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yield where EXIF and the directory of a multi-picture file lie among a JPEG's segments."""
    place = 2
    while place + 4 <= len(view) and view[place] == 0xFF:  # noqa: PLR2004 - a marker
        marker = view[place + 1]
        if marker in (0xDA, 0xD9):  # the first scan, the end
            return
        end = place + 2 + int.from_bytes(view[place + 2 : place + 4], "big")
        body = bytes(view[place + 4 : place + 10])
        skip = next((len(each) for each in _JPEG_BLOCKS if body.startswith(each)), 0)
        if skip:
            yield place + 4 + skip, min(end, len(view))
        place = max(end, place + 2)


def _png_texts(view: memoryview) -> Iterator[int]:
    """Yield what each text and profile of a PNG may unpack to."""
    place = len(_PNG)
    while place + 8 <= len(view):
        length, kind = struct.unpack_from(">L4s", view, place)
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            yield min(_TEXT_CHUNK, length * _DEFLATE_RATIO)
        elif kind == b"eXIf":
            yield tag_bytes(view[place + 8 : place + 8 + length])
        place += 12 + length


def _tiff_extra(picture: PIL.Image.Image) -> int:
    """Return the size of the strip or the tile that is decoded at a time."""
    tags: Any = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    deepest = max(bits) if isinstance(bits, tuple) and bits else 8
    # An RGBA image is what libtiff makes of strips that it has to convert.
    pixel = max(_first(tags.get(_SAMPLES), 1) * deepest / 8, _OTHER_PIXEL)
    if _TILE_WIDTH in tags:
        return int(_first(tags.get(_TILE_WIDTH), 1) * _first(tags.get(_TILE_ROWS), 1) * pixel)
    rows = min(_first(tags.get(_ROWS), picture.height), picture.height)
    return int(max(picture.width, _first(tags.get(_WIDTH), 1)) * rows * pixel)


def _webp_extra(picture: PIL.Image.Image) -> int:
    return picture.width * picture.height * _WEBP_PIXEL


def _first(value: Any, default: int) -> int:
    found = value[0] if isinstance(value, tuple) and value else value
    return found if isinstance(found, int) and found > 0 else default
