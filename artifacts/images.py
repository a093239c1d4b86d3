"""Images: PIL images and numpy arrays to PNG, JPEG, WebP and TIFF, and back within bounds.

Nothing is converted in silence where that would lose something: a mode that a format cannot hold is an error that says
what to convert to. Pillow's own limit against decompression bombs holds on decoding.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from stepout.schemas.errors import ArtifactTooLargeError, ConfigurationError, InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import PIL.Image

__all__ = [
    "EncodedImage",
    "ImageFormat",
    "check_format",
    "check_options",
    "decode_image",
    "encode_image",
    "is_image",
]

ImageFormat = Literal["png", "jpeg", "webp", "tiff"]


@dataclass(frozen=True)
class _Format:
    pillow: str
    modes: tuple[str, ...]
    options: str
    longest: int | None = None  # pixels per side, where the format has a limit of its own


# JPEG: 16-bit sides (ITU T.81); WebP: 14-bit sides (RFC 9649). The modes are those that Pillow writes without loss; the
# options are those of https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html that are for one frame.
_FORMATS: Final[Mapping[str, _Format]] = {
    "png": _Format(
        "PNG",
        ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"),
        "optimize transparency dpi pnginfo compress_level compress_type bits dictionary icc_profile exif",
    ),
    "jpeg": _Format(
        "JPEG",
        ("L", "RGB", "CMYK", "YCbCr"),
        "quality optimize progressive dpi icc_profile exif xmp keep_rgb subsampling restart_marker_blocks "
        "restart_marker_rows qtables streamtype comment smooth",
        65_535,
    ),
    "webp": _Format(
        "WEBP",
        ("RGB", "RGBA"),
        "lossless quality alpha_quality method exact icc_profile exif xmp",
        16_383,
    ),
    "tiff": _Format(
        "TIFF",
        ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"),
        "compression quality tiffinfo big_tiff exif icc_profile dpi resolution x_resolution y_resolution "
        "resolution_unit description software date_time artist copyright strip_size",
    ),
}
_ALIASES: Final = {"jpg": "jpeg", "tif": "tiff"}
_DECODED: Final = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")

# Conversions that keep every pixel as it is.
_LOSSLESS: Final = {
    ("jpeg", "1"): "L",
    ("webp", "1"): "RGB",
    ("webp", "L"): "RGB",
    ("webp", "LA"): "RGBA",
    ("webp", "P"): "RGBA",
}
_PLANES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_MAX_16_BIT: Final = 65_535


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image as a file.

    Attributes:
        data: The file.
        annotation: What the pointer says of it: ``width`` and ``height`` in pixels, ``mode`` as Pillow names it,
            ``format``.
    """

    data: memoryview
    annotation: Mapping[str, Any]


def is_image(value: object) -> bool:
    """Return whether ``encode_image`` is for values of this type; imports neither Pillow nor numpy."""
    classes = type(value).__mro__
    return any((cls.__module__, cls.__name__) in {("PIL.Image", "Image"), ("numpy", "ndarray")} for cls in classes)


def encode_image(image: object, format: str = "png", **save: Any) -> EncodedImage:  # noqa: A002 - the name users expect
    """Encode an image.

    Args:
        image: A PIL image (of one with several frames, the current one); or a numpy array: ``bool`` of HxW, ``uint8``
            of HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA), ``uint16`` of HxW (PNG and TIFF).
        format: ``"png"``, ``"jpeg"``, ``"webp"`` or ``"tiff"``.
        save: Further options of Pillow's writer, for example ``quality=90`` or ``compression="tiff_lzw"``.

    Returns:
        The file and what to say of it.

    Raises:
        ConfigurationError: The format cannot hold the image, or nothing here can; the message says what to convert.
    """
    wanted = check_format(format)
    picture = _fit(_picture(image), wanted)
    data = _save(picture, wanted, save)
    annotation = {"width": picture.width, "height": picture.height, "mode": picture.mode, "format": wanted}
    return EncodedImage(data=data, annotation=annotation)


def check_format(format: object) -> str:  # noqa: A002 - as above
    """Return the name of a format that ``encode_image`` writes; its media type is ``image/…``, its extension ``.…``.

    Raises:
        ConfigurationError: It is none.

    >>> check_format("JPG")
    'jpeg'
    """
    name = format.lower() if isinstance(format, str) else ""
    wanted = _ALIASES.get(name, name)
    if wanted not in _FORMATS:
        raise ConfigurationError(f"image format {format!r}: expected one of {', '.join(_FORMATS)}; nothing was sent")
    return wanted


def check_options(wanted: str, save: Mapping[str, Any]) -> None:
    """Refuse options that a format's writer does not have: Pillow would pass over them, and over slips of the pen.

    Args:
        wanted: From ``check_format``.
        save: Options by name.

    Raises:
        ConfigurationError: There is one that it does not have.
    """
    known = _FORMATS[wanted].options.split()
    unknown = sorted(set(save) - set(known))
    if unknown:
        msg = f"put_image does not know {', '.join(unknown)}; besides the options of every put, {wanted} takes "
        raise ConfigurationError(f"{msg}{', '.join(known)}. Nothing was sent")


def decode_image(data: bytes | bytearray | memoryview, *, max_pixels: int | None = None) -> PIL.Image.Image:
    """Decode an image, its first frame where it has several.

    Args:
        data: A PNG, JPEG, WebP, TIFF, GIF or BMP file.
        max_pixels: Most pixels to decode; ``None`` stands for Pillow's own limit (twice ``PIL.Image.MAX_IMAGE_PIXELS``,
            179 million), which holds in any case.

    Returns:
        The image, loaded.

    Raises:
        ArtifactTooLargeError: It has more pixels; none was decoded.
        InvalidDocumentError: It is no image, is cut off, or is broken.
    """
    Image = _pillow()  # noqa: N806 - a module
    with warnings.catch_warnings():
        # Pillow warns between once and twice its limit, of which the second holds here, and of damage before it fails.
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(data), formats=_DECODED)
            _check_pixels(picture.width * picture.height, max_pixels)
            picture.load()
            loaded: PIL.Image.Image = picture
        except Image.DecompressionBombError:
            _check_pixels(None, max_pixels)
        except (ArtifactTooLargeError, MemoryError):
            raise
        except Exception as error:
            # Decoders meet hostile bytes with errors of every kind.
            message = f"these {len(data):,} bytes are no image that can be decoded ({type(error).__name__})"
            raise InvalidDocumentError(f"{message}; expected one of {', '.join(_DECODED)}, whole") from error
    return loaded


def _check_pixels(pixels: int | None, limit: int | None) -> None:
    if pixels is None:
        message = "more than PIL.Image.MAX_IMAGE_PIXELS allows; raise that if you trust the image"
        raise ArtifactTooLargeError(f"the image has {message}. Nothing was decoded")
    if limit is not None and pixels > limit:
        raise ArtifactTooLargeError(f"the image has {pixels:,} pixels, allowed are {limit:,}; nothing was decoded")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        msg = "images need Pillow, which is not installed: pip install 'stepout[image]'"
        raise ConfigurationError(msg) from error
    return Image


def _picture(image: object) -> PIL.Image.Image:
    Image = _pillow()  # noqa: N806 - a module
    picture = image if isinstance(image, Image.Image) else _from_array(image)
    if not (picture.width and picture.height):
        raise ConfigurationError(f"the image has {picture.width} x {picture.height} pixels; there is nothing to encode")
    fitting: PIL.Image.Image = picture
    return fitting


def _from_array(array: Any) -> Any:
    if not is_image(array):
        msg = f"expected a PIL image or a numpy array, got {type(array).__module__}.{type(array).__qualname__}"
        raise ConfigurationError(f"{msg}; nothing was sent")
    if getattr(array, "mask", None) is not None and array.mask.any():
        raise ConfigurationError("the array has masked pixels: say what they are with .filled(…). Nothing was sent")
    dtype, shape = array.dtype, array.shape
    planes = shape[2] if len(shape) == 3 else 1  # noqa: PLR2004 - height, width, planes
    if len(shape) not in (2, 3) or planes not in _PLANES:
        msg = f"expected an array of HxW, HxWx1, HxWx3 or HxWx4, got {'x'.join(map(str, shape)) or 'a scalar'}"
        raise ConfigurationError(f"{msg}; move the channels to the last axis. Nothing was sent")
    if dtype.kind == "f":
        msg = f"an image of {dtype} has no fixed range: scale it, for example "
        raise ConfigurationError(f"{msg}(image.clip(0, 1) * 255).round().astype('uint8'). Nothing was sent")
    if dtype.name not in ("bool", "uint8", "uint16") or (planes > 1 and dtype.name != "uint8"):
        msg = f"an array of {dtype} with {planes} channel(s) is no image here: expected bool, uint8 or uint16 of one"
        raise ConfigurationError(f"{msg} channel, or uint8 of 3 or 4; convert it with .astype(). Nothing was sent")
    return _of_flat(array.reshape(shape[:2]) if planes == 1 else array)


def _of_flat(array: Any) -> Any:
    import numpy as np

    if 0 in array.shape:
        raise ConfigurationError(
            f"the image has {array.shape[1]} x {array.shape[0]} pixels; there is nothing to encode"
        )
    # In the machine's byte order and without gaps, which is what Pillow reads.
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return _pillow().fromarray(flat)


def _fit(picture: PIL.Image.Image, wanted: str) -> PIL.Image.Image:
    target = _FORMATS[wanted]
    lossless = _LOSSLESS.get((wanted, picture.mode))
    if lossless is not None:
        picture = picture.convert(lossless)
    elif wanted == "png" and picture.mode == "I":
        picture = _narrow(picture)
    if picture.mode not in target.modes:
        raise ConfigurationError(_mode_message(picture.mode, wanted))
    if target.longest is not None and max(picture.size) > target.longest:
        msg = f"{wanted} holds {target.longest:,} pixels a side, the image has {picture.width:,} x {picture.height:,}"
        raise ConfigurationError(f"{msg}; use png or tiff, or resize it. Nothing was sent")
    return picture


def _narrow(picture: PIL.Image.Image) -> PIL.Image.Image:
    low, high = cast("tuple[int, int]", picture.getextrema())
    if low < 0 or high > _MAX_16_BIT:
        msg = "the image has 32-bit values outside 0 to 65,535, which png cannot hold; use tiff, or scale it"
        raise ConfigurationError(f"{msg}. Nothing was sent")
    return picture.convert("I;16")


def _mode_message(mode: str, wanted: str) -> str:
    known = ", ".join(_FORMATS[wanted].modes)
    fitting = [name for name, entry in _FORMATS.items() if mode in entry.modes]
    if mode in ("RGBA", "LA", "PA", "P", "RGBa", "La"):
        advice = f"image.convert('{'L' if mode in ('LA', 'La') else 'RGB'}') drops transparency"
    elif mode in ("I", "I;16", "I;16B", "F"):
        advice = "scale it to 8 bits a channel first"
    else:
        advice = "image.convert('RGB') does in most cases"
    others = f", or use {' or '.join(fitting)}" if fitting else ""
    return f"{wanted} cannot hold an image of mode {mode} (it holds {known}): {advice}{others}. Nothing was sent"


def _save(picture: PIL.Image.Image, wanted: str, save: Mapping[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format=_FORMATS[wanted].pillow, **save)
    except (OSError, ValueError, TypeError, KeyError) as error:
        options = f" with {', '.join(sorted(save))}" if save else ""
        msg = f"could not encode an image of mode {picture.mode} as {wanted}{options} ({type(error).__name__}: {error})"
        raise ConfigurationError(f"{msg}. Nothing was sent") from error
    return buffer.getbuffer()
