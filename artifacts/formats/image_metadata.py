"""What an image carries besides its pixels: how it stands, its colours' meaning, its resolution, EXIF and XMP.

Pillow hands some of it on and drops the rest, differently for each format, and takes options of the file that an image
came from for those of the file that is written. Here every image is made plain first, and what goes with it is said:
the colour profile, EXIF, XMP and the resolution, wherever the format has a place for them. Comments, other texts and
the settings of the source's encoder (its compression, its quality) are not carried.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import PIL.Image

_EXIF_HEADER: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_XMP_TAG: Final = 700
_XMP_TEXT: Final = "XML:com.adobe.xmp"
_EXIF_DIRECTORIES: Final = (0x8769, 0x8825)  # Exif and GPS
# What EXIF and TIFF share that is about the picture and not about how the file is built (Exif 2.32, table 4): title,
# make, model, software, time, artist, host, copyright.
_DESCRIPTIVE: Final = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
# The colour space of an ICC profile is named in bytes 16 to 20 of its header (ICC.1:2022, 7.2.6).
_SPACES: Final = {
    b"GRAY": ("1", "L", "LA", "I;16", "I;16B", "I", "F"),
    b"RGB ": ("RGB", "RGBA", "P", "PA", "YCbCr"),
    b"CMYK": ("CMYK",),
    b"Lab ": ("LAB",),
    b"YCbr": ("YCbCr",),
}
_HIGHEST_DPI: Final = 65_535  # JPEG's 16 bits


def plain_copy(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return a copy that stands upright and is of no file: its ``info`` is what it carries, EXIF included.

    Args:
        image: Any image, its current frame.
    """
    from PIL import ImageOps

    image.load()
    exif = _exif_of_tiff(image)
    try:
        copy: PIL.Image.Image = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - EXIF that nobody can read turns no picture, and goes along as it is
        copy = image.copy()
    if "exif" not in copy.info and "Raw profile type exif" in copy.info:
        exif = copy.getexif().tobytes()
    if exif is not None:
        copy.info["exif"] = exif
    return copy


def transpose(image: PIL.Image.Image) -> None:
    """Turn an image as its EXIF says, in place; EXIF that cannot be read turns nothing."""
    from PIL import ImageOps

    try:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # noqa: BLE001 - hostile EXIF meets with errors of every kind; the pixels are there
        return


def has_transparency(image: PIL.Image.Image) -> bool:
    """Say whether an image of a mode without alpha has transparent pixels: a colour, or a palette, that says so."""
    if image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return True
    return "transparency" in image.info


def carried(source: PIL.Image.Image, picture: PIL.Image.Image, wanted: str, save: Mapping[str, Any]) -> dict[str, Any]:
    """Return Pillow's options for what goes along with an image; the caller's own win.

    Args:
        source: From ``plain_copy``.
        picture: The same, in the mode that is written.
        wanted: The format, as ``check_format`` names it.
        save: The caller's options.

    Raises:
        ConfigurationError: There is a colour profile that does not fit the mode that the format needs, or EXIF that
            cannot be written, or read, of which TIFF holds only what can.
    """
    options = dict(save)
    profile = _profile(source, picture.mode, wanted) if "icc_profile" not in save else None
    if profile is not None:
        options["icc_profile"] = profile
    exif, xmp = _bytes(save.get("exif", source.info.get("exif"))), save.get("xmp", _xmp(source.info))
    if wanted != "webp" and "dpi" not in save and (dpi := _dpi(source.info)) is not None:
        options["dpi"] = dpi
    if wanted == "tiff":
        options.pop("exif", None)
        tags = _tiff_tags(exif, xmp, save.get("tiffinfo"))
        if save.get("compression", "raw") not in (None, "raw") and any(tag in tags for tag in _EXIF_DIRECTORIES):
            msg = (
                "the image has EXIF, which Pillow cannot write into a compressed tiff: leave out compression=, use png"
            )
            raise ConfigurationError(f"{msg}, or leave EXIF out with del image.info['exif']. Nothing was sent")
        return {**options, "tiffinfo": tags} if tags else options
    if exif:
        options["exif"] = _EXIF_HEADER + exif if wanted == "jpeg" else exif
    if xmp and wanted == "png":
        options["pnginfo"] = _png_texts(save.get("pnginfo"), xmp)
    elif xmp:
        options["xmp"] = xmp
    if wanted == "png" and "transparency" in source.info and picture.mode in ("1", "L", "P", "RGB", "I;16", "I;16B"):
        options.setdefault("transparency", source.info["transparency"])
    return options


def _profile(source: PIL.Image.Image, mode: str, wanted: str) -> bytes | None:
    profile = source.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None
    modes = _SPACES.get(profile[16:20])
    if modes is None or mode in modes:
        return profile
    if source.mode not in modes:
        return None  # converted before, by somebody who left the profile of other pixels in info
    msg = f"the image's colour profile is for mode {source.mode}, which {wanted} holds as {mode}: use png or tiff, or "
    raise ConfigurationError(f"{msg}leave it out with del image.info['icc_profile']. Nothing was sent")


def _dpi(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    found = info.get("dpi")
    try:
        across, down = (float(each) for each in found)  # type: ignore[union-attr]  # what is no pair is no resolution
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    # 1 is what Pillow says of a TIFF file that says nothing.
    fitting = all(math.isfinite(each) and 1 < each <= _HIGHEST_DPI for each in (across, down))
    return (across, down) if fitting else None


def _xmp(info: Mapping[Any, Any]) -> bytes | None:
    found = info.get("xmp") or info.get(_XMP_TEXT)
    return found.encode() if isinstance(found, str) else found if isinstance(found, bytes) else None


def _bytes(exif: Any) -> bytes:
    """Return EXIF as bytes without the header that only JPEG has."""
    try:
        data = exif if isinstance(exif, bytes | bytearray) else exif.tobytes() if hasattr(exif, "tobytes") else b""
    except Exception as error:  # Pillow meets tags that it cannot write with errors of every kind
        msg = f"the image's EXIF cannot be written ({type(error).__name__}): mend its tags, or leave it out with"
        raise ConfigurationError(f"{msg} del image.info['exif']. Nothing was sent") from error
    return bytes(data).removeprefix(_EXIF_HEADER)


def _exif_of_tiff(image: PIL.Image.Image) -> bytes | None:
    """Return what a TIFF file says of its picture; how the file is built is left out."""
    if not hasattr(image, "tag_v2"):
        return None
    return _described(image.getexif())


def _described(found: PIL.Image.Exif) -> bytes | None:
    from PIL import Image

    kept = Image.Exif()
    kept.update({tag: found[tag] for tag in _DESCRIPTIVE if tag in found})
    directories = {tag: dict(found.get_ifd(tag)) for tag in _EXIF_DIRECTORIES}
    kept.update({tag: inner for tag, inner in directories.items() if inner})
    return kept.tobytes() if kept else None


def _tiff_tags(exif: bytes, xmp: Any, own: Any) -> Any:
    """Return the tags that a TIFF file gets besides its own; ``own`` are the caller's."""
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    if exif:
        found = Image.Exif()
        try:
            found.load(exif)
            tags.update({tag: found[tag] for tag in _DESCRIPTIVE if tag in found})
            directories = {tag: dict(found.get_ifd(tag)) for tag in _EXIF_DIRECTORIES}
        except Exception as error:
            msg = f"the image's EXIF cannot be read ({type(error).__name__}), and tiff holds only what can: use another"
            raise ConfigurationError(f"{msg} format, or del image.info['exif']. Nothing was sent") from error
        tags.update({tag: inner for tag, inner in directories.items() if inner})
    if xmp:
        tags[_XMP_TAG] = xmp.encode() if isinstance(xmp, str) else xmp
    for tag in own or ():
        tags[tag] = own[tag]
        if hasattr(own, "tagtype") and tag in own.tagtype:
            tags.tagtype[tag] = own.tagtype[tag]
    return tags


def _png_texts(own: Any, xmp: Any) -> Any:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.chunks = list(own.chunks) if own is not None else []
    texts.add_itxt(_XMP_TEXT, xmp.decode() if isinstance(xmp, bytes) else xmp)
    return texts
