"""A program: run one of CPython's own suites with the library's file objects in the place of the system's.

``python -m support.cpython_suites NAME`` prints one JSON object: how many tests ran, how many files were read and
written through the library, and what failed. The suites are those of the interpreter that runs it; nothing of them is
kept here.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import sys
import tempfile
import unittest
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from support.routed_files import Module, RoutedFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SUITES", "Suite", "module_of"]

_FORWARD = "an artifact's writer goes forward only"
_HEADER = "wave goes back to correct the lengths in its header"
_TURNS = "what was committed is not written to again"
_NUMBER = "an artifact has no file descriptor"
_NAME = "a reader's name is its object's URL, a writer's the artifact's"
_PROCESS = "the test's own process of Python, in which nothing is routed"
_READER = "the test writes to, or cuts, what it reads"
_BZ2_NAMES = ("testOpenBytesFilename", "testOpenFilename", "testOpenPathLikeFilename")  # since 3.13
_LZMA_NAMES = (
    "test_init_with_PathLike_filename",
    "test_init_with_filename",
    "test_with_pathlike_filename",
    "test_read_from_file",
    "test_read_from_file_with_bytes_filename",
    "test_write_to_file",
    "test_write_to_file_with_bytes_filename",
)


@dataclass(frozen=True)
class Suite:
    """Which of a suite's tests exercise file objects, and which of those cannot work.

    Attributes:
        classes: Names of classes, or patterns with a star at the end; a class that this version has not is passed by.
        without: Names of methods, and why each cannot work.
        modules: Where the suite is, the newest version's place first.
    """

    classes: tuple[str, ...]
    without: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


SUITES: dict[str, Suite] = {
    "tarfile": Suite(
        (
            "UstarReadTest", "GzipUstarReadTest", "LzmaUstarReadTest", "MiscReadTest", "GzipMiscReadTest",
            "StreamReadTest", "GzipStreamReadTest", "Bz2StreamReadTest", "DetectReadTest", "GzipDetectReadTest",
            "LzmaDetectReadTest", "GNUReadTest", "PaxReadTest", "WriteTest", "GzipWriteTest", "StreamWriteTest",
            "GzipStreamWriteTest", "LzmaStreamWriteTest", "CreateTest", "CreateWithXModeTest", "ContextManagerTest",
            "Bz2PartialReadTest", "AppendTest",
        ),
        {
            **{f"test_sparse_file_{each}": _FORWARD for each in ("00", "01", "10", "old")},
            "test_bytes_name_attribute": _NAME,
            "test_pax_header_bad_formats": _FORWARD,
        },
    ),
    "zipfile": Suite(
        (
            "StoredTestsWithSourceFile", "DeflateTestsWithSourceFile", "StoredTestZip64InSmallFiles",
            "StoredWriterTests", "DeflateWriterTests", "OtherTests", "StoredBadCrcTests", "DeflateBadCrcTests",
            "DecryptionTests", "StoredTestsWithRandomBinaryFiles", "UnseekableTests", "TestsWithMultipleOpens",
            "ExtractTests",
        ),
        {"test_truncated_zipfile": _READER, "test_decompress_without_3rd_party_library": _READER},
        modules=("test.test_zipfile.test_core", "test.test_zipfile"),
    ),
    "gzip": Suite(
        ("TestGzip", "TestOpen"),
        {
            "test_mode": "a writer has one mode",
            "test_paddedfile_getattr": _NAME,
            "test_fileobj_with_name": _NUMBER,
        },
    ),
    "bz2": Suite(
        ("BZ2FileTest", "OpenTest"),
        {
            **dict.fromkeys(_BZ2_NAMES, _NAME),
            "testFileno": _NUMBER,
            "testOpenFileWithName": _NUMBER,
            "testWriteBytesIO": _TURNS,
        },
    ),
    "lzma": Suite(
        ("FileTestCase", "OpenTestCase"),
        {
            **dict.fromkeys(_LZMA_NAMES, _NAME),
            "test_fileno": _NUMBER,
            "test_read_from_fileobj": _NUMBER,
            "test_write_to_fileobj": _NUMBER,
            "test_binary_modes": _TURNS,
            "test_text_modes": _TURNS,
        },
    ),
    "csv": Suite(("Test*", "KeyOrderingTest"), {"test_write_simple_dict": _TURNS}),
    "pickle": Suite(("CUnpicklerTests", "CPicklerTests", "CPicklerUnpicklerObjectTests")),
    "wave": Suite(
        ("Wave*",),
        {f"test_{each}": _HEADER for each in ("copy", "incompleted_write", "multiple_writes", "overflowed_write")},
    ),
    "io": Suite(
        ("CIOTest", "CMiscIOTest", "CTextIOWrapperTest"),
        {
            "test_repr": _NAME, "test_closefd_attr": _NUMBER, "test_fileio_closefd": _NUMBER,
            "test_read_closed": _NUMBER, "test_issue25862": _READER,
            "test_illegal_encoder": _READER,
            "test_create_at_shutdown_with_encoding": _PROCESS, "test_create_at_shutdown_without_encoding": _PROCESS,
        },
        modules=("test.test_io.test_general", "test.test_io"),
    ),
}  # fmt: skip


def module_of(name: str) -> str | None:
    """Return where this interpreter has a suite; ``None``: it has none."""
    for place in (*SUITES[name].modules, f"test.test_{name}"):
        try:
            if find_spec(place) is not None:
                return place
        except ModuleNotFoundError:  # of the package around it
            continue
    return None


def _route(name: str, suite: Any, files: RoutedFiles) -> None:
    """Let a suite, and the modules that it tests, open files through the library."""
    import bz2
    import gzip
    import lzma
    import tarfile
    import wave
    import zipfile

    opening = Module(builtins, open=files.open)
    places: list[tuple[Any, str, Any]] = [(each, "builtins", opening) for each in (gzip, lzma, wave)]
    places += [(tarfile, "bltn_open", files.open), (bz2, "_builtin_open", files.open)]
    places += [(zipfile, "io", Module(io, open=files.open)), (suite, "open", files.open)]
    if name in {"bz2", "lzma"}:
        places.append((suite, "BytesIO", files.buffer))
    elif name == "zipfile":
        places.append((suite, "io", Module(io, open=files.open, BytesIO=files.buffer_class())))
    elif name == "csv":
        places.append((suite, "TemporaryFile", files.temporary))
    elif name == "pickle":
        places.append((suite, "io", Module(io, BytesIO=files.buffer)))
    elif name == "wave":
        places.append((sys.modules["test.audiotests"], "open", files.open))
    elif name == "gzip":
        files.descriptor = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the program
    elif name == "io":
        places += [(getattr(suite, each), "open", staticmethod(files.open)) for each in SUITES["io"].classes]
        places.append((suite.CTextIOWrapperTest, "BytesIO", files.buffer_class()))
    for owner, member, value in places:
        setattr(owner, member, value)


def _chosen(tests: unittest.TestSuite, suite: Suite) -> Iterator[unittest.TestCase]:
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from _chosen(test, suite)
            continue
        kind, method = type(test).__name__, test.id().rpartition(".")[2]
        wanted = any(kind == each or (each.endswith("*") and kind.startswith(each[:-1])) for each in suite.classes)
        if wanted and method not in suite.without:
            yield test


def main(name: str) -> None:
    """Run a suite and print what came of it."""
    place = module_of(name)
    assert place is not None, name
    module = importlib.import_module(place)
    files = RoutedFiles(reads_only=name == "io")
    tests = list(_chosen(unittest.defaultTestLoader.loadTestsFromModule(module), SUITES[name]))
    _route(name, module, files)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(unittest.TestSuite(tests))
    failed = {test.id(): text for test, text in (*result.failures, *result.errors)}
    counts = {"run": result.testsRun, "skipped": len(result.skipped), "read": files.read, "written": files.written}
    print(json.dumps({**counts, "failed": failed}))  # noqa: T201 - a program's answer


if __name__ == "__main__":
    main(sys.argv[1])
