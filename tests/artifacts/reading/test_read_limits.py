"""What a read may take: bounded by the memory that was granted, by what a file declares, and by counted work."""

from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.shelf import ALLOW, Shelf

from stepout.artifacts.formats import images
from stepout.artifacts.formats.image_sizes import metadata_bytes, tag_bytes
from stepout.artifacts.formats.images import decode_image
from stepout.artifacts.process.memory_granted import GrantedMemory
from stepout.artifacts.read_limit import MOST, limit_of
from stepout.artifacts.reading import access
from stepout.artifacts.reading.documents import foreign as interop
from stepout.artifacts.reading.documents.foreign import load_foreign, opened_texts
from stepout.artifacts.reading.read_many import read_many
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas import find_documents, load_json
from stepout.schemas.errors import ArtifactTooLargeError, InvalidDocumentError, UndecodableError
from stepout.schemas.many_failed import ManyFailedError
from stepout.schemas.text.json_value import json_problems

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20


# The default limit -------------------------------------------------------------------------------------------------


@given(st.none() | st.integers(1, 1 << 64))
def test_the_limit_is_a_quarter_of_what_was_granted(size: int | None) -> None:
    """At most 1 GiB, also where nobody says anything."""
    assert limit_of(GrantedMemory(size, "cgroup")) == (MOST if size is None else min(size // 4, MOST))


def test_every_read_into_memory_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless ``resolve`` or the read is told otherwise, nothing larger is requested."""
    monkeypatch.setattr(access, "_granted", lambda: 100_000)
    shelf = Shelf()
    document = shelf.put(b"x" * 100_001).to_dict()

    def artifact(max_size: int | None = None) -> object:
        return resolve_artifact(document, allow=ALLOW, client=shelf.store, max_size=max_size)

    found: object = artifact()
    for read in ("read_bytes", "read_text", "read_json", "read_image"):
        with pytest.raises(ArtifactTooLargeError, match="the limit here is 100,000"):
            getattr(found, read)()
    with pytest.raises(ManyFailedError, match="the limit here is 100,000"):
        dict(read_many([found]))  # type: ignore[list-item]  # an Artifact
    assert artifact(100_001).read_bytes() == found.read_bytes(max_size=100_001) == b"x" * 100_001  # type: ignore[attr-defined]


# Images ------------------------------------------------------------------------------------------------------------


def tiff(width: int, height: int, **tags: tuple[int, int]) -> bytes:
    """A TIFF file of RGB pixels that declares what it does not hold."""
    entries = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 2), 273: (4, 200), 277: (3, 3)}
    entries |= {278: (4, height), 279: (4, 8), **{int(name[1:]): value for name, value in tags.items()}}
    body = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items()))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4 + 100)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of RGB pixels that declares what it does not hold, with further chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    made = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def exif(tags: int, size: int) -> bytes:
    """EXIF whose tags all share the same bytes."""
    body = b"".join(struct.pack("<HHLL", 0xC000 + tag, 7, size, 0) for tag in range(tags))
    return b"II*\0" + struct.pack("<LH", 8, tags) + body + bytes(4 + max(0, size - 12 * tags))


def jpeg(block: bytes) -> bytes:
    """A small JPEG with EXIF."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    segment = b"Exif\0\0" + block
    return buffer.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + buffer.getvalue()[2:]


def saved(form: str, width: int, **save: object) -> bytes:
    """A whole file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, width)).save(buffer, form, **save)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "TIFF's pixels": lambda: tiff(13_000, 13_000),
    "TIFF's strip": lambda: tiff(4_000, 4_000),
    "TIFF's tile": lambda: tiff(64, 64, t322=(4, 30_000), t323=(4, 30_000), t324=(4, 200), t325=(4, 8)),
    "TIFF's tags": lambda: exif(4_000, 48_000),
    "PNG's pixels": lambda: png(12_570, 12_570),
    "PNG's texts": lambda: png(4, 4, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(MIB)))] * 70),
    "PNG's profile and texts": lambda: png(4, 4, *[(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(MIB)))] * 70),
    "PNG's EXIF": lambda: png(4, 4, (b"eXIf", exif(4_000, 48_000))),
    "JPEG's EXIF": lambda: jpeg(exif(4_000, 60_000)),
    "WebP's canvas": lambda: saved("WEBP", 1_900, quality=1, method=0),
    "JPEG's coefficients": lambda: saved("JPEG", 3_500, progressive=True),
    "GIF's pixels": lambda: saved("GIF", 10)[:6] + struct.pack("<HH", 10_000, 10_000) + saved("GIF", 10)[10:],
    "BMP's pixels": lambda: saved("BMP", 4_200),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_what_an_image_declares_is_held_against_the_limit(case: str) -> None:
    """A small file that would take more than the limit is refused before anything of it is decoded."""
    data = BOMBS[case]()
    with pytest.raises(ArtifactTooLargeError, match=r"limit here is 67,108,864; nothing was decoded"):
        decode_image(data, max_size=64 * MIB)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_what_fits_is_decoded(form: str) -> None:
    """An image of 100 x 100 pixels takes no more than 0.3 MB in any format."""
    data = saved(form, 100)
    assert decode_image(data, max_size=300_000).size == (100, 100)
    with pytest.raises(ArtifactTooLargeError, match="nothing was decoded"):
        decode_image(data, max_size=9_999)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II+\0\b\0\0\0", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]),
)
def test_any_bytes_can_be_measured(data: bytes, magic: bytes) -> None:
    """The measure of hostile bytes is a number, and decoding them an error of ours."""
    assert metadata_bytes(magic + data) >= 0
    assert tag_bytes(magic + data) >= 0
    with suppress(UndecodableError, ArtifactTooLargeError):
        assert decode_image(magic + data).size


def test_the_limit_of_images_is_that_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``max_size``, decoding stops where reads into memory stop."""
    monkeypatch.setattr(images, "read_limit", lambda: 1_000)
    with pytest.raises(ArtifactTooLargeError, match="the limit here is 1,000"):
        decode_image(saved("PNG", 100))


# Text and JSON -----------------------------------------------------------------------------------------------------


def test_json_that_unfolds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty arrays take fifty times their text: what the values take is counted before they are made."""
    monkeypatch.setattr(access, "_granted", lambda: 20 * MIB)
    shelf = Shelf()
    bomb = b"[" + b"[]," * 350_000 + b"[]]"
    with pytest.raises(ArtifactTooLargeError, match=r"read as JSON, .*was not decoded"):
        shelf.artifact(bomb).read_json()
    text = json.dumps(["x" * 4_000_000]).encode()
    assert shelf.artifact(text, "t.json").read_json() == json.loads(text)


def test_text_that_widens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One character beyond 16 bits makes all of a text four times as wide."""
    monkeypatch.setattr(access, "_granted", lambda: 6 * MIB)
    shelf = Shelf()
    text = "a" * (2 * MIB)
    assert shelf.artifact(text.encode()).read_text() == text
    with pytest.raises(ArtifactTooLargeError, match=r"read as text, .*was not decoded"):
        shelf.artifact((text + "\N{GRINNING FACE}").encode(), "b.txt").read_text()
    assert (
        len(shelf.artifact((text + "\N{GRINNING FACE}").encode(), "c.txt").read_text(max_size=9 * MIB)) == len(text) + 1
    )


BIG = "12345678901234567890"
NESTED: dict[str, Callable[[], object]] = {
    "numbers": lambda: '{"stepout":[' + "1," * 600_000 + BIG + "]}",
    "arrays": lambda: '{"stepout":[' + "[]," * 50_000 + BIG + "]}",
    "many texts": lambda: ['{"stepout":1}'] * 12_000,
    "many texts that are no JSON": lambda: ['{"stepout":1x'] * 12_000,
    "text in text": lambda: json.dumps({"stepout": json.dumps({"stepout": json.dumps({"stepout": [1] * 200_000})})}),
    "members twice": lambda: '{"stepout":1,"stepout":1,"a":[' + "{}," * 50_000 + "{}]}",
}


@pytest.mark.parametrize("case", NESTED)
def test_text_inside_json_is_parsed_within_a_budget(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """What would take long is refused by counted work, whatever it is made of, here by a twelfth of it."""
    monkeypatch.setattr(interop, "_TEXT_BUDGET", MIB)
    with pytest.raises(InvalidDocumentError, match="more JSON as text inside of JSON") as caught:
        opened_texts({"body": NESTED[case]()})
    assert [problem.kind for problem in caught.value.problems] == ["size"]


def test_a_lambdas_event_fits_the_budget() -> None:
    """Ten messages of SNS in SQS, half a megabyte each, are opened."""
    document = {"stepout": "output/1", "result": {"text": "x" * 500_000}}
    body = json.dumps({"Message": json.dumps(document)})
    opened = opened_texts({"Records": [{"body": body}] * 10})
    assert opened["Records"][9]["body"]["Message"] == document


def test_others_values_are_read_and_not_judged() -> None:
    """Integers, surrogates and NaN of others are their own; depth and members twice are refused as in ours."""
    assert load_foreign(f'{{"a": {BIG}, "b": "\\ud800"}}') == {"a": int(BIG), "b": "\ud800"}
    for text in ("[" * 101 + "]" * 101, '{"a": 1, "a": 2}', "[" * 100_000):
        with pytest.raises(InvalidDocumentError):
            load_foreign(text)
    assert find_documents(load_foreign("[" * 100 + "]" * 100)) == []


def test_no_more_problems_are_named_than_anybody_reads() -> None:
    """A deep value of a hundred thousand faults names the first thousand."""
    text = '{"' + "k" * 80 + '":' + "[" * 90 + f"{BIG}," * 100_000 + "1" + "]" * 90 + "}"
    with pytest.raises(InvalidDocumentError, match="and 995 more") as caught:
        load_json(text)
    assert len(caught.value.problems) == 1_000
    assert len(json_problems([float("nan")] * 5_000)) == 1_000
