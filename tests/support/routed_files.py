"""File objects of the library in the place of those of the operating system, for suites that only know paths."""

from __future__ import annotations

import builtins
import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings
from support.shelf import Shelf

if TYPE_CHECKING:
    from stepout.artifacts.writing.writer import ArtifactWriter

__all__ = ["Module", "RoutedFiles"]


class RoutedFiles:
    """Opens files: what is read is an artifact's reader, what is written an artifact's writer.

    A file is put into a bucket in memory before it is read, and what was committed is copied to the file, so everything
    else that a suite does to its files finds them.

    Args:
        reads_only: Let the builtin write, for suites whose writers seek.
    """

    def __init__(self, *, reads_only: bool = False) -> None:
        self._reads_only = reads_only
        self._shelf = Shelf()
        self._paths: dict[str, Path] = {}
        self._numbers = itertools.count(1)
        self.store = _CopyingStore(self._paths)
        self._manager = ArtifactManager(self.store, settings=TransferSettings(memory=16 << 20))
        self.descriptor: Any = None
        """A file whose descriptor writers say is theirs, for suites that sync what they have written."""
        self.read = self.written = 0

    def open(  # noqa: PLR0913, PLR0917 - the builtin's signature
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **rest: Any,
    ) -> Any:
        """Open as the builtin does; what is no path, and what is read and written, the builtin opens."""
        kind = "".join(sorted(mode.replace("t", "")))
        if isinstance(file, int) or rest or kind not in {"r", "br", "w", "bw", "x", "bx"}:
            return builtins.open(file, mode, buffering, encoding, errors, newline, **rest)  # noqa: PTH123 - it may be a number
        if self._reads_only and "r" not in kind:
            return builtins.open(file, mode, buffering, encoding, errors, newline)  # noqa: PTH123 - it may be a number
        path = Path(os.fsdecode(file))
        with path.open(kind if "b" in kind else f"{kind}b") as real:
            raw = self.reader(real.read()) if "r" in kind else self.writer(path)
        if "b" not in kind:
            return io.TextIOWrapper(raw, encoding, errors, newline)
        return raw.detach() if buffering == 0 and "r" in kind else raw

    def reader(self, data: bytes) -> io.BufferedReader:
        """Return a reader of bytes."""
        self.read += 1
        return self._shelf.artifact(data, f"f{next(self._numbers)}").open()

    def writer(self, path: Path | None = None) -> ArtifactWriter:
        """Return a writer, whose content comes to be at ``path``."""
        self.written += 1
        name = f"f{next(self._numbers)}"
        if path is not None:
            self._paths[name] = path.absolute()
        writer = self._manager.open(name)
        if self.descriptor is not None:
            writer.fileno = self.descriptor.fileno  # type: ignore[method-assign]  # what a suite syncs has none
        return writer

    def buffer(self, data: Any = None) -> Any:
        """Return what stands for ``io.BytesIO(data)``: a reader of bytes; or a writer first, then a reader of them."""
        return _Buffer(self) if data is None else self.reader(bytes(data))

    def temporary(self, *_: Any, newline: str | None = None, **__: Any) -> _TemporaryText:
        """Return what stands for ``tempfile.TemporaryFile("w+")``: written first, then read from the start."""
        return _TemporaryText(self.buffer(), newline)

    def buffer_class(self) -> type[io.BytesIO]:
        """Return an ``io.BytesIO`` that is an artifact's reader if made with bytes, and can be derived from."""
        files = self

        class Bytes(io.BytesIO):
            def __new__(cls, data: Any = b"") -> Any:
                return files.reader(bytes(data)) if cls is Bytes and data else super().__new__(cls)

        return Bytes


class _CopyingStore(MemoryStore):
    """A bucket in memory; objects appear as files as well."""

    def __init__(self, paths: dict[str, Path]) -> None:
        super().__init__("results")
        self._paths = paths

    def _store(self, key: str, data: bytes, *rest: Any) -> Any:
        path = self._paths.pop(key.rpartition("/")[2].partition(".")[0], None)
        if path is not None:
            path.write_bytes(data)
        return super()._store(key, data, *rest)


class _Buffer:
    """A writer until somebody asks for its content or its start, a reader of that from then on."""

    def __init__(self, files: RoutedFiles) -> None:
        self._files = files
        self._writer: Any = files.writer()
        self._file: Any = self._writer

    def getvalue(self) -> bytes:
        self._writer.close()
        return self._files.store.read(self._writer.pointer.key)

    def seek(self, *place: int) -> int:
        if self._file is self._writer:
            self._file = self._files.reader(self.getvalue())
        return int(self._file.seek(*place))

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            raise AttributeError(name)  # a BytesIO has none
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _TemporaryText:
    """Text that is written, and read from its start then."""

    def __init__(self, buffer: Any, newline: str | None) -> None:
        self._buffer = buffer
        self._newline = newline
        self._file = io.TextIOWrapper(buffer, "utf-8", newline=newline)

    def seek(self, position: int) -> int:
        if self._buffer.writable():
            self._file.detach()  # which flushes; collected, it would close what is read
            self._buffer.seek(0)
            self._file = io.TextIOWrapper(self._buffer, "utf-8", newline=self._newline)
        return self._file.seek(position)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)


class Module:
    """A module with some names replaced, for one of its users alone."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
