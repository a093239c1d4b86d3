"""What an image carries besides its pixels: kept where the format has a place for it, refused where it has none."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.formats.images import decode_image, encode_image
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = ("png", "jpeg", "webp", "tiff")
PLANES = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'


def opened(picture: Image.Image, form: str, **save: Any) -> Image.Image:
    """The image as it comes from a file of its own."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **save)
    buffer.seek(0)
    return Image.open(buffer)


def written(picture: Any, form: str, **save: Any) -> Image.Image:
    """The image as Pillow reads what was written, not turned by us."""
    return Image.open(io.BytesIO(encode_image(picture, form, **save).data))


def exactly(form: str) -> dict[str, Any]:
    """What makes a format lossless."""
    return {"lossless": True, "exact": True} if form == "webp" else {}


def rgba(picture: Image.Image) -> Any:
    """The pixels as they are seen."""
    return np.asarray(picture.convert("RGBA"))


# Transparency ------------------------------------------------------------------------------------------------------


def palette(key: Any) -> Image.Image:
    """A palette image with transparency."""
    image = Image.fromarray(PLANES).quantize(16)
    image.info["transparency"] = key
    return image


def keyed(mode: str, key: Any) -> Image.Image:
    """An image of which one colour is transparent."""
    image = Image.fromarray(PLANES).convert(mode)
    image.info["transparency"] = key
    return image


SEE_THROUGH: dict[str, Callable[[], Image.Image]] = {
    "a palette's colour": lambda: palette(3),
    "a palette's alpha": lambda: palette(bytes(range(0, 256, 16))),
    "a palette of RGBA": lambda: Image.fromarray(np.dstack([PLANES, PLANES[:, :, 0]])).quantize(16, method=2),
    "a grey": lambda: keyed("L", 40),
    "black of two": lambda: keyed("1", 0),
    "a colour": lambda: keyed("RGB", tuple(int(each) for each in PLANES[2, 3])),
    "a GIF": lambda: opened(palette(3), "GIF", transparency=3),
    "a PNG": lambda: opened(keyed("RGB", (0, 1, 2)), "PNG"),
}


@pytest.mark.parametrize("form", ["png", "webp", "tiff"])
@pytest.mark.parametrize("case", SEE_THROUGH)
def test_transparency_in_info_is_kept(case: str, form: str) -> None:
    """A transparent colour or palette is seen through after a round trip, with every other pixel as it was."""
    image = SEE_THROUGH[case]()
    expected = rgba(image)
    assert (expected[:, :, 3] < 255).any()
    assert np.array_equal(rgba(written(image, form, **exactly(form))), expected)


@pytest.mark.parametrize("case", SEE_THROUGH)
def test_jpeg_refuses_transparency(case: str) -> None:
    """JPEG has no place for it, so the error says which format has, or how to drop it."""
    with pytest.raises(ConfigurationError, match=r"(drops|if all of it is to be seen|png).*Nothing was sent"):
        encode_image(SEE_THROUGH[case](), "jpeg")


def test_16_bits_with_a_transparent_grey_stay_in_png() -> None:
    """PNG keeps it; TIFF, which cannot, says so."""
    image = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000)
    image.info["transparency"] = 9000
    assert written(image, "png").info["transparency"] == 9000
    with pytest.raises(ConfigurationError, match=r"transparent colour.*use png"):
        encode_image(image, "tiff")


# A phone's photograph ----------------------------------------------------------------------------------------------


def photograph(orientation: int, form: str = "JPEG") -> Image.Image:
    """A photograph as a phone writes it: turned by its EXIF, with a place, a camera and a profile."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif[0x8769] = {0x9003: "2026:11:28 12:00:00"}
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    return opened(
        Image.fromarray(PLANES),
        form,
        exif=exif.tobytes(),
        icc_profile=SRGB,
        **({"quality": 95} if form == "JPEG" else {}),
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stays_upright(form: str, orientation: int) -> None:
    """For those who look at EXIF and for those who only take the pixels; who took it, where and when stay with it."""
    photo = photograph(orientation)
    upright = ImageOps.exif_transpose(photo)
    back = written(photo, form, **exactly(form))
    assert back.getexif().get(0x0112, 1) == 1
    assert back.size == upright.size
    if form != "jpeg":
        assert np.array_equal(np.asarray(back), np.asarray(upright))
    assert back.getexif().get_ifd(0x8769)[0x9003] == "2026:11:28 12:00:00"
    assert back.getexif().get_ifd(0x8825)[1] == "N"
    assert back.getexif()[0x010F] == "Maker"
    assert back.info["icc_profile"] == SRGB
    assert photo.size == (24, 16)  # the caller's image is not touched


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photograph_stored_as_a_file_is_read_upright(source: str, orientation: int) -> None:
    """``read_image`` turns what others wrote, so that numpy has it upright, too."""
    photo = photograph(orientation, source)
    assert isinstance(photo, ImageFile.ImageFile)
    assert photo.fp is not None
    photo.fp.seek(0)
    file = photo.fp.read()
    expected = np.asarray(ImageOps.exif_transpose(photo))
    image = decode_image(file)
    assert np.array_equal(np.asarray(image), expected)
    assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_exif_that_nobody_can_read_loses_nothing(form: str) -> None:
    """The pixels are stored; TIFF, which has no room for EXIF as it is, refuses it."""
    image = opened(Image.fromarray(PLANES), "PNG", exif=b"no EXIF at all")
    if form == "tiff":
        with pytest.raises(ConfigurationError, match=r"EXIF cannot be read.*image\.info\['exif'\]"):
            encode_image(image, form)
    else:
        assert b"no EXIF at all" in written(image, form).info["exif"]


@pytest.mark.parametrize("form", FORMATS)
def test_exif_that_cannot_be_written_is_refused(form: str) -> None:
    """The error says how to leave it out."""
    image = Image.fromarray(PLANES)
    image.info["exif"] = tags = Image.Exif()
    tags[0x8769] = 7  # a directory that is none
    with pytest.raises(ConfigurationError, match=r"EXIF cannot be written.*del image\.info\['exif'\]"):
        encode_image(image, form)


def test_exif_and_compressed_tiff() -> None:
    """Pillow cannot write both; without EXIF, or without compression, it can."""
    with pytest.raises(ConfigurationError, match="leave out compression="):
        encode_image(photograph(6), "tiff", compression="tiff_lzw")
    photo = photograph(1)
    del photo.info["exif"]
    assert written(photo, "tiff", compression="tiff_lzw").info["compression"] == "tiff_lzw"


@pytest.mark.parametrize("form", FORMATS)
def test_xmp_and_resolution_are_carried(form: str) -> None:
    """Both stay wherever there is a place for them; WebP has none for the resolution."""
    image = Image.fromarray(PLANES)
    image.info.update(xmp=XMP, dpi=(300, 300))
    back = written(image, form)
    assert back.info["xmp"] == XMP
    assert form == "webp" or round(back.info["dpi"][0]) == 300


def test_a_profile_goes_with_the_pixels_that_it_is_of() -> None:
    """One of another colour space is left out; one that the format would part from its pixels is an error."""
    grey = bytearray(SRGB)
    grey[16:20] = b"GRAY"
    image = Image.fromarray(PLANES[:, :, 0])
    image.info["icc_profile"] = bytes(grey)
    assert written(image, "png").info["icc_profile"] == bytes(grey)
    with pytest.raises(ConfigurationError, match=r"profile is for mode L, which webp holds as RGB"):
        encode_image(image, "webp")
    image = Image.fromarray(PLANES)
    image.info["icc_profile"] = bytes(grey)  # as after convert("RGB")
    assert "icc_profile" not in written(image, "png").info


@pytest.mark.parametrize("form", FORMATS)
def test_the_callers_options_win(form: str) -> None:
    """What a put says is what is written, whatever the image brought."""
    image = Image.fromarray(PLANES)
    image.info.update(icc_profile=b"x" * 200, dpi=(300, 300))
    options = {"icc_profile": SRGB} if form == "webp" else {"icc_profile": SRGB, "dpi": (72, 72)}
    back = written(image, form, **options)
    assert back.info["icc_profile"] == SRGB
    assert form == "webp" or round(back.info["dpi"][0]) == 72


# Nothing of the source's encoder -----------------------------------------------------------------------------------

SETTINGS = {
    "compression": "jpeg",
    "quality": 3,
    "progressive": 1,
    "progression": 1,
    "comment": b"a comment",
    "duration": 70,
    "loop": 3,
    "background": 1,
    "lossless": True,
    "Software": "a text",
}


@pytest.mark.parametrize("form", FORMATS)
def test_the_source_decides_nothing_but_what_is_carried(form: str) -> None:
    """The same pixels give the same file, whatever file they were in before and however that was encoded."""
    plain = Image.fromarray(PLANES)
    plain.info.update(SETTINGS)
    expected = bytes(encode_image(Image.fromarray(PLANES), form).data)
    assert bytes(encode_image(plain, form).data) == expected
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "a text")
    for source in (
        opened(plain, "TIFF", compression="tiff_lzw"),
        opened(plain, "PNG", pnginfo=texts, compress_level=1),
        opened(plain, "WEBP", lossless=True, exact=True),
    ):
        assert bytes(encode_image(source, form).data) == expected


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_is_not_compressed_again(compression: str) -> None:
    """Every pixel of what was decoded is kept, unless the put asks for compression."""
    source = opened(Image.fromarray(PLANES), "TIFF", compression=compression)
    back = written(source, "tiff")
    assert back.info["compression"] == "raw"
    assert np.array_equal(np.asarray(back), np.asarray(source))
    assert written(source, "tiff", compression="tiff_lzw").info["compression"] == "tiff_lzw"


def test_settings_of_the_source_cannot_be_kept() -> None:
    """``quality='keep'`` is of a file that is copied, which put_file does."""
    with pytest.raises(ConfigurationError, match="put_file stores a file as it is"):
        encode_image(photograph(1), "jpeg", quality="keep")


# Frames ------------------------------------------------------------------------------------------------------------


def animation(form: str) -> Image.Image:
    """Three frames that differ."""
    frames = [Image.fromarray(np.roll(PLANES, 60 * index)).quantize(32) for index in range(3)]
    frames = frames if form == "GIF" else [frame.convert("RGB") for frame in frames]
    times = {} if form == "TIFF" else {"duration": [100, 200, 300], "loop": 0}
    return opened(frames[0], form, save_all=True, append_images=frames[1:], **times)


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("source", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_are_refused_where_one_is_held(source: str, form: str) -> None:
    """The error says how to put one of them, and how to put all; the copy of a frame is one image."""
    image = animation(source)
    with pytest.raises(ConfigurationError, match=r"3 frames.*image\.copy\(\).*image\.seek.*put_file"):
        encode_image(image, form)
    image.seek(1)
    frame = image.copy().convert("RGB")
    back = written(frame, form)
    assert getattr(back, "n_frames", 1) == 1
    assert form == "jpeg" or np.array_equal(rgba(back), rgba(frame))


@pytest.mark.parametrize("form", ["webp", "tiff"])
@pytest.mark.parametrize("source", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_are_kept_where_they_can_be(source: str, form: str) -> None:
    """All frames come, with their times in WebP, and the caller's image stays at the frame where it was."""
    image = animation(source)
    image.seek(2)
    encoded = encode_image(image, form, **exactly(form))
    back = Image.open(io.BytesIO(encoded.data))
    assert (image.tell(), back.n_frames, encoded.annotation["frames"]) == (2, 3, 3)  # type: ignore[attr-defined]
    for index in range(3):
        image.seek(index)
        back.seek(index)
        back.load()
        assert np.array_equal(rgba(back), rgba(image))
        if form == "webp" and source != "TIFF":
            assert back.info["duration"] == [100, 200, 300][index]
    assert form == "tiff" or back.info["loop"] == (1 if source == "TIFF" else 0)


def test_equal_frames_in_a_row_are_refused_by_webp() -> None:
    """WebP's encoder would make one of them; TIFF keeps all."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "lime", "blue")]
    pages = opened(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ConfigurationError, match=r"3 of the image's 4 frames.*use tiff"):
        encode_image(pages, "webp")
    assert written(pages, "tiff").n_frames == 4  # type: ignore[attr-defined]


def test_pages_of_several_sizes_are_tiff_only() -> None:
    """An animation has one size."""
    pages = opened(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (5, 5))])
    assert written(pages, "tiff").n_frames == 2  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"several sizes.*use tiff"):
        encode_image(pages, "webp")


# Images that cannot be read ----------------------------------------------------------------------------------------


def cut(_: Path) -> Any:
    """A file that ends too early."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(buffer, "PNG")
    return Image.open(io.BytesIO(buffer.getvalue()[:-400]))


def closed(folder: Path) -> Any:
    """An image whose block is left."""
    Image.fromarray(PLANES).save(folder / "a.png")
    with Image.open(folder / "a.png") as image:
        pass
    return image


def shut(_: Path) -> Any:
    """An image that was closed after it was made."""
    image = Image.new("L", (3, 3))
    image.close()
    return image


NO_IMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (cut, "cannot be decoded.*cut off.*put_file"),
    "a closed file": (closed, "cannot be decoded.*closed"),
    "a closed image": (shut, "cannot be decoded.*closed"),
    "a list of pixels": (lambda _: np.zeros((10, 3), np.uint8), r"10 x 3.*array\[:, :, None\].*put_table"),
    "a list of pixels with alpha": (lambda _: np.zeros((10, 4), np.uint8), r"10 x 4.*put_table"),
    "a column": (lambda _: np.zeros((10, 1), np.uint16), r"10 x 1.*put_table"),
    "points": (lambda _: np.zeros((10, 2), bool), r"10 x 2.*put_table"),
    "a matrix": (lambda _: np.eye(9), "no fixed range.*For numbers use put_table"),
    "half floats": (lambda _: np.eye(9, dtype=np.float16), "no fixed range.*put_table"),
    "complex numbers": (lambda _: np.eye(9, dtype=complex), r"complex128.*\.astype.*put_table"),
    "objects": (lambda _: np.array([[None] * 9] * 9), r"object.*\.astype"),
    "texts": (lambda _: np.array([["a"] * 9] * 9), r"<U1.*\.astype"),
    "times": (lambda _: np.zeros((9, 9), "M8[s]"), r"datetime64\[s\].*\.astype"),
    "records": (lambda _: np.zeros((9, 9), [("a", "u1")]), r"\.astype"),
    "bools of three channels": (lambda _: np.zeros((9, 9, 3), bool), "bool with 3 channel"),
    "two channels": (lambda _: np.zeros((9, 9, 2), np.uint8), "got 9x9x2"),
    "five channels": (lambda _: np.zeros((9, 9, 5), np.uint8), "got 9x9x5"),
    "no channels": (lambda _: np.zeros((9, 9, 0), np.uint8), "got 9x9x0"),
    "many images": (lambda _: np.zeros((2, 9, 9, 3), np.uint8), "got 2x9x9x3"),
    "no rows": (lambda _: np.zeros((0, 9, 3), np.uint8), "9 x 0 pixels"),
    "no columns": (lambda _: np.zeros((9, 0), np.uint8), "0 x 9 pixels"),
    "no pixels": (lambda _: Image.new("RGB", (0, 9)), "0 x 9 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("put", ["put", "put_image"])
@pytest.mark.parametrize("case", NO_IMAGE)
def test_what_is_no_image_is_refused_before_anything_is_sent(tmp_path: Path, case: str, put: str) -> None:
    """The error says what to do, nothing is stored, and the name is free."""
    make, match = NO_IMAGE[case]
    store = MemoryStore("results")
    manager = ArtifactManager(store)
    with pytest.raises(ConfigurationError, match=f"(?s){match}.*Nothing was sent"):
        getattr(manager, put)("i", make(tmp_path))
    assert store.keys() == []
    manager.put("i", b"x")


def test_a_narrow_image_says_so() -> None:
    """A third axis makes an image of what could be a list of pixels."""
    array = np.arange(30, dtype=np.uint8).reshape(10, 3)
    assert np.array_equal(np.asarray(written(array[:, :, None], "png")), array)
