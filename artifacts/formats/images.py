"""Images: PIL images and numpy arrays to PNG, JPEG, WebP and TIFF, and back within bounds.

Nothing is converted in silence where that would lose something: a mode, transparency or frames that a format cannot
hold are an error that says what to convert to. Decoding is bounded by what a file declares, before it begins.
"""

from __future__ import annotations

import io
import struct
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from stepout.artifacts.formats import image_metadata, image_sizes
from stepout.artifacts.read_limit import read_limit
from stepout.schemas.errors import ArtifactTooLargeError, ConfigurationError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import PIL.Image

ImageFormat = Literal["png", "jpeg", "webp", "tiff"]


@dataclass(frozen=True)
class _Format:
    pillow: str
    modes: tuple[str, ...]
    options: str
    frames: bool = False
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
        longest=65_535,
    ),
    "webp": _Format(
        "WEBP",
        ("RGB", "RGBA"),
        "lossless quality alpha_quality method exact icc_profile exif xmp duration loop "
        "background minimize_size kmin kmax allow_mixed",
        frames=True,
        longest=16_383,
    ),
    "tiff": _Format(
        "TIFF",
        ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"),
        "compression quality tiffinfo big_tiff exif icc_profile dpi resolution x_resolution y_resolution "
        "resolution_unit description software date_time artist copyright strip_size",
        frames=True,
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
    ("webp", "PA"): "RGBA",
    ("png", "PA"): "RGBA",
    ("tiff", "PA"): "RGBA",
    ("tiff", "I;16B"): "I;16",
}
# The same for images with a transparent colour or palette, where a format has no place for that.
_TRANSPARENT: Final = {"1": "LA", "L": "LA", "P": "RGBA", "RGB": "RGBA"}
_PLANES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_MOST_PLANES: Final = 4
_MAX_16_BIT: Final = 65_535
_OPAQUE: Final = 255
_NUMBERS: Final = "For numbers use put_table, or numpy.save into open(name, 'wb')"
_FRAME_TIME: Final = 100  # ms, where a frame says nothing; what browsers make of 0


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image as a file.

    Attributes:
        data: The file.
        annotation: What the pointer says of it: ``width`` and ``height`` in pixels, ``mode`` as Pillow names it,
            ``format``, and ``frames`` where there are several.
    """

    data: memoryview
    annotation: Mapping[str, Any]


def is_image(value: object) -> bool:
    """Return whether ``encode_image`` is for values of this type; imports neither Pillow nor numpy."""
    classes = type(value).__mro__
    return any((cls.__module__, cls.__name__) in {("PIL.Image", "Image"), ("numpy", "ndarray")} for cls in classes)


def encode_image(image: object, wanted: str = "png", **save: Any) -> EncodedImage:
    """Encode an image.

    An image is stored upright, without the orientation that its EXIF asked for, and with its colour profile, EXIF, XMP
    and resolution where the format has a place for them (WebP has none for the resolution). Nothing else of the file
    that it came from is kept: no comments, no settings of its encoder.

    Args:
        image: A PIL image, of one with several frames all of them (WebP with their durations, TIFF as pages); or a
            numpy array: ``bool`` of HxW, ``uint8`` of HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA), ``uint16`` of HxW (PNG
            and TIFF).
        wanted: From ``check_format``.
        save: Further options of Pillow's writer, for example ``quality=90`` or ``compression="tiff_lzw"``.

    Returns:
        The file and what to say of it.

    Raises:
        ConfigurationError: The format cannot hold the image, or nothing here can; the message says what to convert.
    """
    _check_kept(wanted, save)
    sources = _sources(image, wanted)
    pictures = [_fit(source, wanted) for source in sources]
    options = [
        image_metadata.carried(source, picture, wanted, save) for source, picture in zip(sources, pictures, strict=True)
    ]
    if len(pictures) > 1:
        _add_frames(wanted, sources, pictures, options)
    first = pictures[0]
    annotation = {"width": first.width, "height": first.height, "mode": first.mode, "format": wanted}
    data = _save(pictures, wanted, options, save)
    if len(pictures) > 1:
        annotation["frames"] = len(pictures)
        _check_frames(data, pictures, wanted)
    return EncodedImage(data=data, annotation=annotation)


def check_format(format: object) -> str:  # noqa: A002 - the name users expect
    """Return the name of a format that ``encode_image`` writes; its media type is ``image/…``, its extension ``.…``.

    Raises:
        ConfigurationError: There is no such format.

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


def decode_image(
    data: bytes | bytearray | memoryview, *, max_pixels: int | None = None, max_size: int | None = None
) -> PIL.Image.Image:
    """Decode an image, its first frame where it has several, and turn it as its EXIF says.

    Args:
        data: A PNG, JPEG, WebP, TIFF, GIF or BMP file.
        max_pixels: Most pixels to decode; ``None`` stands for Pillow's own limit (twice ``PIL.Image.MAX_IMAGE_PIXELS``,
            179 million), which holds in any case.
        max_size: Most memory that decoding may take, in bytes, by what the file declares; ``None``: ``read_limit()``.

    Returns:
        The image, loaded.

    Raises:
        ArtifactTooLargeError: It has more pixels, or takes more memory; none was decoded.
        UndecodableError: It is no image, is cut off, or is broken.
    """
    limit = read_limit() if max_size is None else max_size
    with decoding(len(data)):
        picture = open_image(io.BytesIO(data), data, limit)
        _check_pixels(picture.width * picture.height, max_pixels)
        turned = check_decoding(picture, len(data), limit)
        picture.load()
        if turned:
            image_metadata.transpose(picture)
    return picture


@contextmanager
def decoding(size: int) -> Iterator[None]:
    """Make typed errors of whatever a decoder raises inside of it; ``size`` is the file's, in bytes.

    Raises:
        ArtifactTooLargeError: It has more pixels than Pillow decodes.
        UndecodableError: It is no image, is cut off, or is broken.
    """
    Image = require_pillow()  # noqa: N806 - a module
    with warnings.catch_warnings():
        # Pillow warns between once and twice its limit, of which the second holds here, and of damage before it fails.
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            message = "more pixels than PIL.Image.MAX_IMAGE_PIXELS allows; raise that if you trust the image"
            raise ArtifactTooLargeError(f"the image has {message}. Nothing was decoded") from error
        except (ArtifactTooLargeError, MemoryError):
            raise
        except Exception as error:
            # Decoders meet hostile bytes with errors of every kind.
            message = f"these {size:,} bytes are no image that can be decoded ({type(error).__name__})"
            raise UndecodableError(f"{message}; expected one of {', '.join(_DECODED)}, whole") from error


def open_image(file: io.BytesIO, data: bytes | bytearray | memoryview, limit: int) -> PIL.Image.Image:
    """Open an image within ``decoding``: its header alone is read, once its texts and tags are known to fit.

    Args:
        file: What Pillow reads.
        data: The same bytes.
        limit: Most memory that texts and tags may take, in bytes.

    Raises:
        ArtifactTooLargeError: They take more.
    """
    _check_memory("the texts and tags of the image take", image_sizes.metadata_bytes(data), limit)
    picture: PIL.Image.Image = require_pillow().open(file, formats=_DECODED)
    return picture


def check_decoding(picture: PIL.Image.Image, size: int, limit: int) -> bool:
    """Hold what loading an opened image takes against a limit, and return whether EXIF may turn it afterwards.

    Args:
        picture: From ``open_image``.
        size: The file's, in bytes.
        limit: Most memory that decoding may take, in bytes, by what the file declares.

    Raises:
        ArtifactTooLargeError: It takes more.
    """
    exif = picture.info.get("exif") or picture.info.get("Raw profile type exif")
    if isinstance(exif, bytes):
        _check_memory("the tags of the image take", image_sizes.tag_bytes(exif), limit)
    elif isinstance(exif, str):  # the hex of a text that Pillow has unpacked
        tags = bytes.fromhex("".join(exif.split("\n")[3:]))
        _check_memory("the tags of the image take", image_sizes.tag_bytes(tags), limit)
    # A TIFF file is turned by Pillow when it is loaded. That of a PNG may come after its pixels.
    turned = picture.format in ("TIFF", "PNG") or bool({"exif", "xmp", "XML:com.adobe.xmp"} & picture.info.keys())
    need = image_sizes.decoding_bytes(picture, size, turned=turned and _is_turned(picture))
    what = f"the image has {picture.width:,} x {picture.height:,} pixels of mode {picture.mode}, and decoding it takes"
    _check_memory(what, need, limit)
    return turned and picture.format != "TIFF"


def _is_turned(picture: PIL.Image.Image) -> bool:
    try:
        return bool(picture.getexif().get(0x0112, 1) != 1)
    except Exception:  # noqa: BLE001 - what cannot be read turns nothing
        return False


def _check_memory(what: str, need: int, limit: int) -> None:
    if need > limit:
        msg = f"{what} up to {need:,} bytes, the limit here is {limit:,}; nothing was decoded: pass max_size= if you"
        raise ArtifactTooLargeError(f"{msg} trust the image, or download it")


def _check_pixels(pixels: int, limit: int | None) -> None:
    if limit is not None and pixels > limit:
        raise ArtifactTooLargeError(f"the image has {pixels:,} pixels, allowed are {limit:,}; nothing was decoded")


def require_pillow() -> Any:
    """Return ``PIL.Image``; raise ``ConfigurationError``, which says what to install, where Pillow is missing."""
    try:
        from PIL import Image
    except ImportError as error:
        msg = 'images need Pillow, which is not installed: install stepout with its extra "image"'
        raise ConfigurationError(msg) from error
    return Image


def _sources(image: object, wanted: str) -> list[PIL.Image.Image]:
    """Return the frames of an image, upright and of no file; the image itself stays at the frame where it was."""
    Image = require_pillow()  # noqa: N806 - a module
    picture = image if isinstance(image, Image.Image) else _from_array(image)
    if not (picture.width and picture.height):
        msg = f"the image has {picture.width} x {picture.height} pixels; there is nothing to encode"
        raise ConfigurationError(f"{msg}. Nothing was sent")
    try:
        count = getattr(picture, "n_frames", 1)
        if count == 1:
            return [image_metadata.plain_copy(picture)]
        if _FORMATS[wanted].frames:
            with suppress(EOFError):  # layers, which cannot be had one by one
                return _frames(picture, count)
    except MemoryError:
        raise
    except Exception as error:
        # Decoders, and images that were closed before they were loaded, fail in every way.
        msg = f"the image cannot be decoded ({type(error).__name__}: {error}): it is closed, cut off or broken. "
        advice = "Open it anew, and put it before it is closed; put_file stores a file as it is. Nothing was sent"
        raise ConfigurationError(msg + advice) from error
    msg = f"the image has {count:,} frames, of which {wanted} here holds one: image.copy() is the current one, after "
    raise ConfigurationError(
        f"{msg}image.seek(n) another; webp and tiff hold all frames of an animation, put_file keeps the file as it is. "
        "Nothing was sent"
    )


def _frames(picture: PIL.Image.Image, count: int) -> list[PIL.Image.Image]:
    at, frames = picture.tell(), []
    try:
        for index in range(count):
            picture.seek(index)
            frames.append(image_metadata.plain_copy(picture))
    finally:
        with suppress(EOFError):
            picture.seek(at)
    return frames


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
        raise ConfigurationError(f"{msg}; move the channels to the last axis. {_NUMBERS}. Nothing was sent")
    if dtype.kind == "f":
        msg = f"an image of {dtype} has no fixed range: scale it, for example "
        example = "(image.clip(0, 1) * 255).round().astype('uint8')"
        raise ConfigurationError(f"{msg}{example}. {_NUMBERS}. Nothing was sent")
    if dtype.name not in ("bool", "uint8", "uint16") or (planes > 1 and dtype.name != "uint8"):
        msg = f"an array of {dtype} with {planes} channel(s) is no image here: expected bool, uint8 or uint16 of one"
        raise ConfigurationError(
            f"{msg} channel, or uint8 of 3 or 4; convert it with .astype(). {_NUMBERS}. Nothing was sent"
        )
    if len(shape) == 2 and shape[0] > shape[1] and 0 < shape[1] <= _MOST_PLANES:  # noqa: PLR2004 - rows, columns
        msg = f"an array of {shape[0]} x {shape[1]} may be a list of pixels or a table as well as an image: for an "
        raise ConfigurationError(f"{msg}image pass array[:, :, None]. {_NUMBERS}. Nothing was sent")
    return _of_flat(array.reshape(shape[:2]) if planes == 1 else array)


def _of_flat(array: Any) -> Any:
    import numpy as np

    if 0 in array.shape:
        msg = f"the image has {array.shape[1]} x {array.shape[0]} pixels; there is nothing to encode"
        raise ConfigurationError(f"{msg}. Nothing was sent")
    # In the machine's byte order and without gaps, which is what Pillow reads.
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return require_pillow().fromarray(flat)


def _fit(picture: PIL.Image.Image, wanted: str) -> PIL.Image.Image:
    target = _FORMATS[wanted]
    see_through = image_metadata.has_transparency(picture)
    lossless = _LOSSLESS.get((wanted, picture.mode))
    if see_through and wanted != "png":
        lossless = _with_alpha(picture, wanted)
    if lossless is not None:
        picture = _converted(picture, lossless)
    elif wanted == "png" and picture.mode == "I":
        picture = _narrow(picture)
    if picture.mode not in target.modes:
        raise ConfigurationError(_mode_message(picture.mode, wanted))
    if target.longest is not None and max(picture.size) > target.longest:
        msg = f"{wanted} holds {target.longest:,} pixels a side, the image has {picture.width:,} x {picture.height:,}"
        raise ConfigurationError(f"{msg}; use png or tiff, or resize it. Nothing was sent")
    return picture


def _with_alpha(picture: PIL.Image.Image, wanted: str) -> str | None:
    """Return the mode that keeps an image's transparent colour, ``None`` where it has none after all."""
    mode = _TRANSPARENT.get(picture.mode)
    if mode is None and picture.mode not in ("I;16", "I;16B", "I"):
        return None  # an alpha channel, or what a conversion has left behind
    if wanted == "jpeg" and mode == "RGBA" and picture.mode == "P":
        return None  # a mode that it does not hold in any case
    if mode is None or wanted == "jpeg":
        msg = (
            f"the image has a transparent colour (image.info['transparency']), which {wanted} cannot hold: use png, or"
        )
        raise ConfigurationError(f"{msg} del image.info['transparency'] if all of it is to be seen. Nothing was sent")
    return "RGBA" if wanted == "webp" else mode


def _converted(picture: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    # Pillow converts 16 bits of the other byte order by way of 32.
    return (picture.convert("I") if picture.mode == "I;16B" else picture).convert(mode)


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


def _check_kept(wanted: str, save: Mapping[str, Any]) -> None:
    kept = [name for name in ("quality", "subsampling", "qtables") if save.get(name) == "keep"]
    if kept:
        msg = f"{', '.join(kept)}='keep' of {wanted}: an image is encoded anew; put_file stores a file as it is"
        raise ConfigurationError(f"{msg}. Nothing was sent")


def _add_frames(
    wanted: str, sources: list[PIL.Image.Image], pictures: list[PIL.Image.Image], options: list[dict[str, Any]]
) -> None:
    """Add to the first frame's options what makes a file of all frames."""
    sizes = {picture.size for picture in pictures}
    if wanted == "webp":
        if len(sizes) > 1:
            msg = f"the image has {len(pictures):,} frames of several sizes, and webp holds one: use tiff, or put_file"
            raise ConfigurationError(f"{msg}. Nothing was sent")
        times = [round(source.info.get("duration") or _FRAME_TIME) for source in sources]
        options[0].setdefault("duration", times)
        options[0].setdefault("loop", sources[0].info.get("loop", 1))
    for picture, own in zip(pictures[1:], options[1:], strict=True):
        picture.encoderinfo = own  # where Pillow looks for a page's own options
    options[0] |= {"save_all": True, "append_images": pictures[1:]}


def _check_frames(data: memoryview, pictures: list[PIL.Image.Image], wanted: str) -> None:
    """Refuse what libwebp lost: it makes one frame of equal ones in a row, whatever its options."""
    with require_pillow().open(io.BytesIO(data)) as written:
        # libwebp also forgets the alpha of an animation whose first frame shows nothing.
        lost = wanted == "webp" and "A" not in written.mode
        if lost and any(each.mode == "RGBA" and min(each.getchannel("A").tobytes()) < _OPAQUE for each in pictures):
            msg = "webp would lose the transparency of this animation, whose first frame shows nothing: use tiff"
            raise ConfigurationError(f"{msg}, or put_file. Nothing was sent")
        count = int(getattr(written, "n_frames", 1))
    if count != len(pictures):
        msg = f"{wanted} would hold {count:,} of the image's {len(pictures):,} frames, because it makes one of equal"
        raise ConfigurationError(
            f"{msg} ones in a row: use tiff, leave out the repeated ones, or put_file. Nothing was sent"
        )


def _save(
    pictures: list[PIL.Image.Image], wanted: str, options: list[dict[str, Any]], save: Mapping[str, Any]
) -> memoryview:
    buffer, picture = io.BytesIO(), pictures[0]
    for each in pictures:
        each.info = {}  # Pillow takes what it finds there for options
    try:
        picture.save(buffer, format=_FORMATS[wanted].pillow, **options[0])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SyntaxError, struct.error) as error:
        mentioned = f" with {', '.join(sorted(save))}" if save else ""
        carried = sorted(set(options[0]) - set(save) - {"save_all", "append_images"})
        advice = f"; besides its pixels it has {', '.join(carried)}, see image.info" if carried else ""
        msg = f"could not encode an image of mode {picture.mode} as {wanted}{mentioned} ({type(error).__name__}: "
        raise ConfigurationError(f"{msg}{error}){advice}. Nothing was sent") from error
    return buffer.getbuffer()
