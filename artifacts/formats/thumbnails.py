"""A small picture of an image, within bounds of memory and time: for people who look, not for programs.

JPEG is decoded at an eighth of its size where that is enough. Of modes that are no colours of a screen, few pixels are
taken before they are converted. Nothing that the file says besides its pixels goes along: no EXIF, no place, no text.
"""

from __future__ import annotations

import io
import math
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.formats import image_metadata, image_sizes
from stepout.artifacts.formats.images import check_decoding, decoding, open_image
from stepout.artifacts.read_limit import read_limit
from stepout.schemas.errors import ArtifactTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import PIL.Image

LONGEST: Final = 320
"""Pixels of the longer side of a thumbnail, at most."""

MEMORY: Final = 512 << 20
"""The most memory that decoding for a thumbnail takes, in bytes, whatever the process was granted."""

SECONDS: Final = 10.0
"""How long one image may be decoded, and how long its frames may be counted."""

_LARGE: Final = 30 << 10  # a thumbnail of more bytes is tried with a palette, and smaller
_COLOURS: Final = ("L", "LA", "RGB", "RGBA")
_SAMPLES: Final = 4  # a converted mode is sampled at so many times the thumbnail's side first
_NUMBERS: Final = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_MOST_8_BIT: Final = 255


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small picture of an image, and what the image is.

    Attributes:
        width: Of the image as it is seen, turned as its EXIF says, in pixels.
        height: As ``width``.
        format: As Pillow names it: ``"PNG"``.
        mode: As Pillow names it: ``"RGB"``.
        frames: How many it has; the ones that were counted, where ``all_counted`` is false.
        all_counted: Whether there are no more.
        data: The small picture, a PNG.
        small_width: Of the small picture, in pixels.
        small_height: As ``small_width``.
        stretched: Whether its shades go from the least to the greatest value of the image, which are no colours.
    """

    width: int
    height: int
    format: str
    mode: str
    frames: int
    all_counted: bool
    data: bytes
    small_width: int
    small_height: int
    stretched: bool


def make_thumbnail(data: bytes, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> Thumbnail:
    """Decode an image, its first frame where it has several, and make it small.

    Args:
        data: A PNG, JPEG, WebP, TIFF, GIF or BMP file.
        seconds: How long decoding may take.
        clock: Seconds that only go forward.

    Raises:
        ArtifactTooLargeError: It has more pixels than Pillow decodes, or takes more memory or time than one image may.
        UndecodableError: It is no image, is cut off, or is broken.
        ConfigurationError: Pillow is missing.
    """
    limit = min(read_limit(), MEMORY)
    file = _TimedFile(data, clock, seconds)
    with decoding(len(data)):
        picture = open_image(file, data, limit)
        width, height, mode = picture.width, picture.height, picture.mode
        _decode(picture, len(data), limit)
        turned, small = picture.format != "TIFF", _small(picture)
        if turned and _on_its_side(picture):
            width, height = height, width
        elif not turned:  # Pillow turns it when it is loaded
            width, height = picture.size
        if turned:
            image_metadata.transpose(small)
        drawn, stretched = _drawn(small, LONGEST)
        encoded, drawn = _encoded(drawn)
    frames, all_counted = _frames(picture, file)
    return Thumbnail(
        width=width,
        height=height,
        format=picture.format or "",
        mode=mode,
        frames=frames,
        all_counted=all_counted,
        data=encoded,
        small_width=drawn.width,
        small_height=drawn.height,
        stretched=stretched,
    )


class _TimedFile(io.BytesIO):
    """A file that ends the decoder that reads it when its time is over; each use of it begins anew with ``start``."""

    def __init__(self, data: bytes, clock: Callable[[], float], seconds: float) -> None:
        super().__init__(data)
        self._clock = clock
        self._seconds = seconds
        self.start()

    def start(self) -> None:
        self._stop = self._clock() + self._seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if self._clock() > self._stop:
            raise ArtifactTooLargeError(f"decoding the image takes longer than {self._seconds:g} seconds; it was ended")
        return super().read(size)


def _decode(picture: PIL.Image.Image, size: int, limit: int) -> None:
    """Load an image whose memory fits; a JPEG at a part of its size."""
    seen, coefficients = f"{picture.width:,} x {picture.height:,} pixels of mode {picture.mode}", 0
    if picture.format in ("JPEG", "MPO"):
        coefficients = image_sizes.coefficient_bytes(picture)
        picture.draft(None, _fitting(picture.width, picture.height, 2 * LONGEST))  # the mode stays, CMYK for example
    need = image_sizes.decoding_bytes(picture, size, turned=False) + coefficients
    if need > limit:
        msg = f"the image has {seen}: decoding it takes up to {need:,} bytes of memory, and {limit:,} are the most that"
        raise ArtifactTooLargeError(f"{msg} a thumbnail may take. Nothing was decoded")
    check_decoding(picture, size, limit)  # of its tags as well
    picture.load()


def _on_its_side(picture: PIL.Image.Image) -> bool:
    try:
        return picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 - hostile EXIF meets with errors of every kind; it turns nothing
        return False


def _fitting(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the size that a picture has within a square, one pixel at least; none is made larger.

    >>> _fitting(4000, 3000, 320), _fitting(1, 60_000, 320), _fitting(7, 5, 320)
    ((320, 240), (1, 320), (7, 5))
    """
    scale = min(longest / max(width, height), 1.0)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _small(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Return a small copy in the image's own mode."""
    from PIL import Image

    if picture.mode in _COLOURS and "transparency" not in picture.info:
        size = _fitting(picture.width, picture.height, LONGEST)
        return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    times = 1 if picture.mode in _NUMBERS else _SAMPLES
    size = _fitting(picture.width, picture.height, times * LONGEST)
    return picture.resize(size, Image.Resampling.NEAREST)


def _drawn(small: PIL.Image.Image, longest: int) -> tuple[PIL.Image.Image, bool]:
    """Return what a screen shows of a small image, and whether its shades were stretched."""
    from PIL import Image

    if small.mode in _NUMBERS:
        return _stretched(small), True
    if small.mode == "LAB":  # its lightness: the colours need a library of their own
        small = small.getchannel(0)
    elif image_metadata.has_transparency(small) or small.mode in ("PA", "RGBa", "La"):
        small = small.convert("RGBA")
    elif small.mode == "1":
        small = small.convert("L")
    elif small.mode not in _COLOURS:
        small = small.convert("RGB")
    size = _fitting(small.width, small.height, longest)
    return (small if size == small.size else small.resize(size, Image.Resampling.LANCZOS)), False


def _stretched(small: PIL.Image.Image) -> PIL.Image.Image:
    """Return shades of grey from the least to the greatest finite value."""
    from PIL import Image

    numbers = small if small.mode == "F" else small.convert("I").convert("F")
    values = array("f", numbers.tobytes())
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    scale = _MOST_8_BIT / (high - low) if high > low and math.isfinite(high - low) else 0.0
    shades = bytes(
        round(min(max((value - low) * scale, 0.0), _MOST_8_BIT)) if math.isfinite(value) else 0 for value in values
    )
    return Image.frombytes("L", small.size, shades)


def _encoded(drawn: PIL.Image.Image) -> tuple[bytes, PIL.Image.Image]:
    """Return the smallest of some PNGs that is small enough: as it is, with a palette, with fewer pixels."""
    from PIL import Image

    data, shown = _png(drawn), drawn
    for longest in (LONGEST, LONGEST * 3 // 4, LONGEST // 2):
        if len(data) <= _LARGE:
            break
        shown = drawn.resize(_fitting(drawn.width, drawn.height, longest), Image.Resampling.LANCZOS)
        palette: Any = Image.Quantize.FASTOCTREE if shown.mode in ("RGBA", "LA") else Image.Quantize.MEDIANCUT
        coloured = shown.convert("RGBA") if shown.mode == "LA" else shown
        data = _png(coloured.quantize(256, method=palette) if coloured.mode != "L" else coloured)
    return data, shown


def _png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.info = {}  # Pillow would take what it finds there into the file
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _frames(picture: PIL.Image.Image, file: _TimedFile) -> tuple[int, bool]:
    """Count the frames, for as long as that may take; what is broken behind the first frame ends it, too."""
    file.start()
    try:
        return int(getattr(picture, "n_frames", 1)), True
    except Exception:  # noqa: BLE001 - decoders meet hostile bytes with errors of every kind; the first frame is there
        return picture.tell() + 1, False
