"""Verified bytes as text and as JSON: within a limit of memory; an error says that the bytes are those written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.read_limit import text_memory
from stepout.schemas.errors import ArtifactTooLargeError, ConfigurationError, InvalidDocumentError
from stepout.schemas.text.json_text import json_memory, load_json

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL: Final = 1 << 20  # what is smaller takes no memory that matters, however it is written: not worth counting


def check_encoding(encoding: str) -> None:
    """Raise ``ConfigurationError`` if there is no such encoding of text."""
    try:
        "a".encode(encoding)  # codecs that are no encodings of text, such as hex, are refused by this too
    except (LookupError, UnicodeError) as error:
        msg = f"encoding={encoding!r}: there is no such encoding of text; nothing was read"
        raise ConfigurationError(msg) from error


def decoded_text(data: bytes, encoding: str, url: str, limit: Callable[[], int]) -> str:
    """Decode text strictly.

    Args:
        data: All bytes of the artifact.
        encoding: One that ``check_encoding`` has passed.
        url: The artifact's, for messages.
        limit: Returns the most memory that the text may take, in bytes.

    Raises:
        ArtifactTooLargeError: It would take more.
        InvalidDocumentError: The bytes are no such text.
    """
    try:
        if len(data) > _SMALL:
            _check_memory(text_memory(data, encoding), "read as text", url, limit())
        return str(data, encoding)
    except UnicodeError as error:
        where = f"byte {error.start:,} does" if isinstance(error, UnicodeDecodeError) else "they do"
        msg = f"{url} is no {encoding} text: {where} not fit; the bytes are those written"
        raise InvalidDocumentError(msg) from None


def decoded_json(data: bytes, url: str, limit: Callable[[], int]) -> Any:
    """Parse JSON strictly.

    Args:
        data: All bytes of the artifact.
        url: The artifact's, for messages.
        limit: Returns the most memory that the values may take, in bytes.

    Raises:
        ArtifactTooLargeError: They would take more.
        InvalidDocumentError: The bytes are no such JSON.
    """
    if len(data) > _SMALL:
        _check_memory(json_memory(data), "read as JSON", url, limit())
    try:
        return load_json(data, max_bytes=None)
    except InvalidDocumentError as error:
        msg = f"{url} is not JSON that can be read, though its bytes are those that were written: {error}"
        raise InvalidDocumentError(msg, error.problems) from error


def _check_memory(need: int, how: str, url: str, limit: int) -> None:
    if need > limit:
        msg = f"{url}: {how}, it takes up to {need:,} bytes of memory, the limit here is {limit:,}; it was not"
        raise ArtifactTooLargeError(f"{msg} decoded: use download(path) or open(), or pass max_size=")
