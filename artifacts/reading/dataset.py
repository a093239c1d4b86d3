"""The file system of a dataset over artifacts: it opens them, and nothing else.

A ``pyarrow.dataset.FileSystemDataset`` without a file system dereferences a null pointer when it is asked for one, and
pickling asks (pyarrow 26: the interpreter dies). So there is one; pickling it is refused in words, because the readers
behind it hold clients, connections and what was verified, which another process has none of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NOT_PICKLED = (
    "a dataset over artifacts cannot be pickled or copied: it reads through this process's client. Send the pointer "
    "(artifact.pointer.to_dict()) and resolve it there, or send a table"
)
_READ_ONLY = "the file system of an artifact's dataset only opens its files for reading"


def file_system(files: Mapping[str, tuple[int, Callable[[], Any]]]) -> Any:
    """Return a ``pyarrow.fs.PyFileSystem``.

    Args:
        files: By path: the size in bytes, and what opens the file for pyarrow.
    """
    import pyarrow.fs as pafs

    pafs.FileSystemHandler.register(OpenedFiles)
    return pafs.PyFileSystem(OpenedFiles(files))


class OpenedFiles:
    """What ``pyarrow.fs.FileSystemHandler`` asks for.

    Args:
        files: See ``file_system``.
    """

    def __init__(self, files: Mapping[str, tuple[int, Callable[[], Any]]]) -> None:
        self._files = dict(files)

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_PICKLED)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def get_type_name(self) -> str:
        """Return the name of the kind of file system."""
        return "stepout"

    def normalize_path(self, path: str) -> str:
        """Return the path as it is."""
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        """Return what each path is."""
        import pyarrow.fs as pafs

        def info(path: str) -> Any:
            if path not in self._files:
                return pafs.FileInfo(path, pafs.FileType.NotFound)
            return pafs.FileInfo(path, pafs.FileType.File, size=self._files[path][0])

        return [info(path) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        """Return all files below a folder."""
        below = f"{selector.base_dir.rstrip('/')}/" if selector.base_dir else ""
        return self.get_file_info([path for path in self._files if path.startswith(below)])

    def open_input_file(self, path: str) -> Any:
        """Open a file, seekable."""
        if path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path][1]()

    open_input_stream = open_input_file

    def _refused(self, *_: object, **__: object) -> NoReturn:
        raise PermissionError(_READ_ONLY)

    create_dir = delete_dir = delete_dir_contents = delete_root_dir = delete_file = move = copy_file = _refused
    open_output_stream = open_append_stream = _refused
