"""The source distribution holds nothing of where and when it was made: one commit gives the same bytes everywhere.

Everything else that the build must know stands in pyproject.toml. setuptools puts files' times, owners and modes, and
the hour of the build, into the archive; here they are fixed. ``SOURCE_DATE_EPOCH`` sets another time, as
https://reproducible-builds.org/specs/source-date-epoch/ says.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist

_EARLIEST = 315_532_800  # 1980-01-01: no wheel, which is a zip file, can hold an earlier time


class ReproducibleSdist(sdist):
    """Writes the archive in a fixed order, with fixed times, owners and modes."""

    def make_archive(  # noqa: PLR0913, PLR0917 - the signature of the method that it replaces
        self,
        base_name: str | os.PathLike[str],
        format: str,  # noqa: A002 - its name there
        root_dir: str | os.PathLike[str] | bytes | os.PathLike[bytes] | None = None,
        base_dir: str | None = None,
        owner: str | None = None,
        group: str | None = None,
    ) -> str:
        """Return the path of the archive that was made of the release tree."""
        if format != "gztar" or base_dir is None:
            return str(super().make_archive(base_name, format, root_dir, base_dir, owner, group))
        target = Path(f"{os.fspath(base_name)}.tar.gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        tree = Path(base_dir)
        # No name and no time in gzip's own header, either.
        with (
            target.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            # Dereferenced: files that happen to be hard links of one another would be links in the archive, too.
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as archive,
        ):
            for path in [tree, *sorted(tree.rglob("*"), key=lambda each: each.as_posix())]:
                archive.add(path, path.as_posix(), recursive=False, filter=_plain)
        return str(target)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or _EARLIEST)
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o111 else 0o644
    return entry


setup(cmdclass={"sdist": ReproducibleSdist})
