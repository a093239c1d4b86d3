"""Looks into images: a small picture of whatever it is, within bounds."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.looks import Bench

from stepout.artifacts.formats.thumbnails import LONGEST, make_thumbnail
from stepout.page.budget import PageBudget
from stepout.page.model import ImageInside
from stepout.schemas.errors import ArtifactTooLargeError


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def _photo(width: int = 640, height: int = 400, mode: str = "RGB") -> Image.Image:
    """An image that is red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste("red", (0, 0, width // 2, height))
    return image.convert(mode)


def _seen(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_thumbnail_is_a_small_png_of_the_image() -> None:
    """It has the image's proportions, and the card says the dimensions, the format, and that all was verified."""
    bench = Bench()
    look = bench.look(bench.artifacts.put_image("i", _photo(), format="jpeg"))
    assert isinstance(look.inside, ImageInside)
    assert (look.inside.width, look.inside.height, look.inside.format, look.inside.frames) == (640, 400, "JPEG", 1)
    assert (look.inside.thumbnail_width, look.inside.thumbnail_height) == (LONGEST, 200)
    thumbnail = _seen(look.inside.thumbnail)
    assert (thumbnail.format, thumbnail.size) == ("PNG", (LONGEST, 200))
    assert (look.verified, look.problem) == ("whole", None)
    assert "SHA-256" in look.verified_note


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_stands_upright_as_its_exif_says(form: str, orientation: int) -> None:
    """Dimensions are those that are seen, and so is the picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = make_thumbnail(_file(_photo(), form, exif=exif.tobytes()))
    expected = (400, 640) if orientation in (6, 8) else (640, 400)
    assert (found.width, found.height) == expected
    assert (found.small_height > found.small_width) == (orientation in (6, 8))
    red, _, blue = _seen(found.data).convert("RGB").getpixel((2, 2))  # type: ignore[misc]
    assert (red > blue) == (orientation in (1, 6))


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "F", "I;16")]
    + [("JPEG", mode) for mode in ("L", "RGB", "CMYK")]
    + [("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGBA")],
)
def test_every_mode_has_a_thumbnail(form: str, mode: str) -> None:
    """Also those that a browser does not know."""
    image = _photo(40, 30, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    found = make_thumbnail(_file(image, form))
    assert (found.width, found.height, found.small_width, found.small_height) == (40, 30, 40, 30)
    assert found.stretched == (mode in ("I", "F", "I;16"))
    low, high = _seen(found.data).convert("L").getextrema()
    assert low != high


def test_transparency_is_kept() -> None:
    """A page shows its own ground through it."""
    image = _photo(mode="RGBA")
    image.putalpha(0)
    found = _seen(make_thumbnail(_file(image, "PNG")).data)
    assert found.convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


def test_numbers_are_stretched_and_the_note_says_so() -> None:
    """An image of 16 bits, most of which are in a narrow range, is no black square; NaN is black."""
    values = np.linspace(300, 420, 64 * 64).astype(np.uint16).reshape(64, 64)
    bench = Bench()
    look = bench.look(bench.artifacts.put_image("i", values))
    assert isinstance(look.inside, ImageInside)
    assert _seen(look.inside.thumbnail).getextrema() == (0, 255)
    assert "no colours" in look.verified_note
    floats = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    floats[0, 0], floats[0, 1] = np.nan, np.inf
    assert _seen(make_thumbnail(_file(Image.fromarray(floats), "TIFF")).data).getextrema() == (0, 255)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_frames_are_counted(form: str) -> None:
    """The first one is shown."""
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green", "blue")]
    found = make_thumbnail(_file(frames[0], form, save_all=True, append_images=frames[1:]))
    assert (found.frames, found.all_counted) == (3, True)
    red, green, _ = _seen(found.data).convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > green


def test_counting_frames_ends_with_its_time() -> None:
    """A file of frames without end does not keep the page from being made: the count is a lower bound, and said."""
    frames = [Image.new("L", (8, 8), 4 * shade) for shade in range(60)]
    data = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    ticks = itertools.chain([0.0] * 20, itertools.count(0.0, 4.0))
    found = make_thumbnail(data, clock=lambda: next(ticks))
    assert 1 <= found.frames < 60
    assert not found.all_counted


def test_decoding_ends_with_its_time() -> None:
    """A decoder that goes on reading is ended."""
    ticks = itertools.count(0.0, 1.0)
    with pytest.raises(ArtifactTooLargeError, match="longer than 3 seconds"):
        make_thumbnail(_file(_photo(2000, 2000), "PNG", compress_level=0), seconds=3, clock=lambda: next(ticks))


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it has so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    head = struct.pack(">LLBBBBB", width, height, 8, 6, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (13_000, 13_000)])
def test_an_image_bomb_is_a_card_that_says_so(width: int, height: int) -> None:
    """Nothing is decoded of what would take more pixels or memory than one image may."""
    bench = Bench()
    look = bench.look(bench.shelf.put(_bomb(width, height), "bomb.png", media_type="image/png"))
    assert look.inside is None
    assert look.problem is not None
    assert look.problem.error == "Stepout.ArtifactTooLarge"
    assert "max_size" not in look.problem.message
    assert look.verified == "whole"
    assert "could not be decoded" in look.verified_note


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size() -> None:
    """Its dimensions are the whole image's; the memory is that of an eighth."""
    found = make_thumbnail(_file(_photo(6000, 4000), "JPEG"))
    assert (found.width, found.height, found.small_width) == (6000, 4000, LONGEST)


def test_an_extreme_shape_has_a_thumbnail_too() -> None:
    """No side becomes 0 pixels."""
    found = make_thumbnail(_file(_photo(3000, 2), "PNG"))
    assert (found.small_width, found.small_height) == (LONGEST, 1)


def test_a_thumbnail_of_noise_is_small_in_bytes() -> None:
    """Hundreds of images fit on a page."""
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    assert len(make_thumbnail(_file(noise, "JPEG")).data) < 50_000


def test_nothing_but_pixels_goes_along() -> None:
    """EXIF, comments and profiles of the image are not on the page."""
    exif = Image.Exif()
    exif[0x013B] = "the artist's name"
    data = _file(_photo(), "JPEG", exif=exif.tobytes(), comment=b"the artist's name")
    assert b"artist" in data
    assert b"artist" not in make_thumbnail(data).data
    assert not _seen(make_thumbnail(data).data).info


@given(st.data())
def test_a_damaged_image_makes_a_card_and_never_an_error(data: st.DataObject) -> None:
    """Whatever the bytes are: a thumbnail, or a problem."""
    whole = bytearray(_IMAGES[data.draw(st.integers(0, len(_IMAGES) - 1))])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    bench = Bench()
    look = bench.look(bench.shelf.put(bytes(whole), "i", media_type="image/png"))
    assert isinstance(look.inside, ImageInside) or look.problem is not None


_IMAGES = [_file(_photo(24, 16), form) for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")]


def test_svg_is_shown_as_it_is_written() -> None:
    """It may hold scripts: it is text here."""
    bench = Bench()
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    look = bench.look(bench.shelf.put(svg, "a.svg", media_type="image/svg+xml"))
    assert getattr(look.inside, "text", None) == svg.decode()


def test_an_image_that_says_nothing_of_its_type_is_found_out() -> None:
    """By its first bytes."""
    bench = Bench()
    look = bench.look(bench.shelf.put(_IMAGES[0], "a.bin", media_type="application/octet-stream"))
    assert isinstance(look.inside, ImageInside)


def test_an_image_beyond_the_budget_stays_unread() -> None:
    """Nothing is requested, and the card says what it would take."""
    bench = Bench()
    pointer = bench.shelf.put(_IMAGES[5], "a.bmp", media_type="image/bmp")
    look = bench.look(pointer, PageBudget(bytes=pointer.size))
    assert (look.inside, look.verified, look.problem) == (None, "not", None)
    assert f"{pointer.size:,} bytes" in look.verified_note
    assert bench.budget.spent().requests == 0


def test_without_pillow_the_card_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with the artifact."""
    import sys

    bench = Bench()
    pointer = bench.shelf.put(_IMAGES[0], "a.png", media_type="image/png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    look = bench.look(pointer)
    assert (look.inside, look.problem) == (None, None)
    assert 'the extra "image"' in look.verified_note.replace("its extra", "the extra")
