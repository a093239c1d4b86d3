"""Images: encoded as asked, decoded within bounds, never converted at a loss in silence."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.formats.images import check_format, decode_image, encode_image
from stepout.schemas.errors import ArtifactTooLargeError, ConfigurationError, UndecodableError


def gradient(mode: str, size: tuple[int, int] = (7, 5)) -> Image.Image:
    """An image whose pixels differ."""
    planes = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    if mode.startswith("I;16"):
        return Image.fromarray(planes[:, :, 0].astype(np.uint16) * 300)
    image = Image.fromarray(planes).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(planes[:, :, 1] * 2))
    return image


def pixels(image: Image.Image) -> Any:
    """The pixels as an array, palettes resolved."""
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_the_key_and_the_pointer_follow_the_format(form: str) -> None:
    """Extension, media type and annotation say what the file is."""
    store = MemoryStore("results")
    pointer = ArtifactManager(store).put_image("i", gradient("RGB"), format=form)
    image = decode_image(store.read(pointer.key))
    assert (image.format, image.size) == (form.upper(), (7, 5))
    assert pointer.key.endswith(f"/i.{form}")
    assert pointer.media_type == f"image/{form}"
    assert pointer.annotations == {"image": {"width": 7, "height": 5, "mode": "RGB", "format": form}}


@pytest.mark.parametrize(
    ("form", "mode"),
    [("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [("tiff", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "F")]
    + [("webp", mode) for mode in ("RGB", "RGBA")],
)
def test_lossless_formats_give_every_pixel_back(form: str, mode: str) -> None:
    """Each mode that a format holds comes back the same."""
    image = gradient(mode)
    save = {"lossless": True, "exact": True} if form == "webp" else {}
    back = decode_image(encode_image(image, form, **save).data)
    assert back.mode == image.mode
    assert np.array_equal(pixels(back), pixels(image))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_takes_what_it_can_hold(mode: str) -> None:
    """A bilevel image becomes grey, which keeps every pixel; the others stay what they are."""
    encoded = encode_image(gradient(mode), check_format("jpg"), quality=90)
    assert decode_image(encoded.data).size == (7, 5)
    assert encoded.annotation["mode"] == ("L" if mode == "1" else mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_webp_widens_what_it_does_not_have(mode: str) -> None:
    """Grey and palette images become RGB or RGBA with the same pixels."""
    image = gradient(mode)
    encoded = encode_image(image, "webp", lossless=True, exact=True)
    back = decode_image(encoded.data)
    assert np.array_equal(np.asarray(back.convert("RGBA")), np.asarray(image.convert("RGBA")))
    assert encoded.annotation["mode"] in ("RGB", "RGBA")


ARRAYS = {
    "bool": np.array([[True, False], [False, True]]),
    "grey": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "one channel": np.arange(6, dtype=np.uint8).reshape(2, 3, 1),
    "rgb": np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
    "rgba": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "16 bit": np.array([[0, 1], [300, 65535]], dtype=np.uint16),
    "16 bit, big-endian": np.array([[0, 1], [300, 65535]], dtype=">u2"),
    "not contiguous": np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::2, ::2],
    "mirrored": np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::-1],
}


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_arrays_come_back_as_they_were(case: str, form: str) -> None:
    """Height comes first, channels last; byte order and strides do not matter."""
    array = ARRAYS[case]
    back = np.asarray(decode_image(encode_image(array, form).data))
    assert np.array_equal(back, array.reshape(array.shape[:2]) if array.shape[2:] == (1,) else array)


def test_an_image_of_32_bits_fits_png_if_its_values_do() -> None:
    """Mode I holds what 16 bits can, or is an error that says so."""
    small = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert np.asarray(decode_image(encode_image(small).data)).tolist() == [[0, 65535]]
    for value in (-1, 65536):
        with pytest.raises(ConfigurationError, match="32-bit values"):
            encode_image(Image.fromarray(np.array([[value]], dtype=np.int32)))


REFUSED = {
    "transparency in jpeg": (gradient("RGBA"), "jpeg", r"holds L, RGB.*\('RGB'\) drops transparency, or use png"),
    "grey with alpha in jpeg": (gradient("LA"), "jpeg", r"convert\('L'\)"),
    "16 bit in jpeg": (gradient("I;16"), "jpeg", "scale it to 8 bits"),
    "16 bit in webp": (np.zeros((2, 2), np.uint16), "webp", "scale it to 8 bits"),
    "print colours in png": (gradient("CMYK"), "png", r"convert\('RGB'\) does in most cases, or use jpeg or tiff"),
    "another mode": (gradient("HSV"), "png", "mode HSV"),
    "floats": (np.zeros((2, 2)), "png", r"no fixed range: scale it, for example \(image\.clip"),
    "single floats": (np.zeros((2, 2, 3), np.float32), "png", "float32 has no fixed range"),
    "wide integers": (np.zeros((2, 2), np.int64), "png", r"array of int64 .* convert it with \.astype"),
    "16 bit colours": (np.zeros((2, 2, 3), np.uint16), "png", "uint16 with 3 channel"),
    "two channels": (np.zeros((2, 2, 2), np.uint8), "png", "got 2x2x2"),
    "channels first": (np.zeros((3, 20, 20), np.uint8), "png", "move the channels to the last axis"),
    "a vector": (np.zeros(3, np.uint8), "png", "got 3;"),
    "a scalar": (np.array(3, np.uint8), "png", "got a scalar"),
    "no rows": (np.zeros((0, 3), np.uint8), "png", "3 x 0 pixels"),
    "no pixels": (Image.new("L", (0, 0)), "png", "0 x 0 pixels"),
    "too wide for webp": (Image.new("RGB", (16384, 1)), "webp", "16,383 pixels a side"),
    "no image": ("photo.png", "png", r"got builtins\.str"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_format_cannot_hold_is_refused(case: str) -> None:
    """The message says what it holds and what to do; nothing is stored, and the name is free."""
    image, form, match = REFUSED[case]
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    with pytest.raises(ConfigurationError, match=match):
        manager.put_image("i", image, format=form)
    assert store.keys() == []
    manager.put_image("i", gradient("L"))


def test_bad_formats_and_options_are_refused() -> None:
    """Formats we do not write, and options that Pillow does not take, are configuration errors."""
    with pytest.raises(ConfigurationError, match="expected one of png, jpeg, webp, tiff"):
        check_format("gif")
    with pytest.raises(ConfigurationError, match="as jpeg with quality"):
        encode_image(gradient("RGB"), "jpeg", quality="nonsense")


# Decoding ----------------------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [15_000, 60_000])
def test_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    """A small file that claims a huge image costs nothing."""
    with pytest.raises(ArtifactTooLargeError, match=r"pixels|MAX_IMAGE_PIXELS"):
        decode_image(bomb(side, side))


def test_a_caller_may_allow_less() -> None:
    """``max_pixels`` is a limit of the caller's own; between Pillow's warning and its limit nothing is warned of."""
    data = encode_image(gradient("L")).data
    assert decode_image(data, max_pixels=35).size == (7, 5)
    with pytest.raises(ArtifactTooLargeError, match="35 pixels, allowed are 34"):
        decode_image(data, max_pixels=34)
    with pytest.raises(ArtifactTooLargeError, match="100,000,000 pixels"):
        decode_image(bomb(10_000, 10_000), max_pixels=1000)


@given(st.binary(max_size=200))
def test_what_is_no_image_is_an_error_of_ours(data: bytes) -> None:
    """Any bytes give an image or an UndecodableError, never something else."""
    with pytest.raises(UndecodableError, match="no image that can be decoded"):
        decode_image(data)


@given(
    form=st.sampled_from(["png", "jpeg", "webp", "tiff"]),
    place=st.integers(0, 10_000),
    bit=st.integers(0, 7),
    cut=st.booleans(),
)
def test_a_damaged_image_is_decoded_or_an_error_of_ours(form: str, place: int, bit: int, cut: bool) -> None:
    """A flipped bit or a missing end never gives a foreign error."""
    data = bytearray(encode_image(gradient("RGB"), form).data)
    place %= len(data)
    if cut:
        del data[place:]
    else:
        data[place] ^= 1 << bit
    with suppress(UndecodableError, ArtifactTooLargeError):
        assert decode_image(data).size


def test_only_known_formats_are_decoded() -> None:
    """Decoders that nobody asked for stay shut."""
    buffer = io.BytesIO()
    gradient("L").save(buffer, format="PPM")
    with pytest.raises(UndecodableError):
        decode_image(buffer.getvalue())
