"""The built wheel and sdist hold exactly the tree's files, with or without symlinks."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.tree import FOLDERS, ROOT, walk

BUILD_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


def _expected() -> set[str]:
    """Every module and data file of the tree, by its name in the wheel."""
    return {
        f"{package.replace('.', '/')}/{file.relative_to(folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for file in walk(folder)
        if file.suffix in {".py", ".json", ".toml"} or file.name == "py.typed" or file.parent.name == "templates"
    }


def _checkout(target: Path) -> Path:
    """Copy what the build reads, without the symlinks, as a checkout on Windows might be."""
    for name in BUILD_FILES:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for folder in FOLDERS.values():
        shutil.copytree(
            folder,
            target / folder.relative_to(ROOT),
            ignore=lambda where, names: [n for n in names if (Path(where) / n).is_symlink() or n == "__pycache__"],
        )
    return target


def _build(source: Path, out: Path, *options: str, umask: int = -1) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, umask=umask)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    # Without -w or -s, build makes the sdist first and then the wheel from it.
    _build(_checkout(tmp_path_factory.mktemp("checkout") / "src"), out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    return next(built.glob("*.whl"))


def test_two_sdists_of_one_tree_are_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Another checkout, with other times and modes, built later and under another umask, gives the same archive."""
    source = _checkout(tmp_path / "elsewhere")
    for path in source.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
        path.chmod(0o700 if path.is_dir() else 0o600)
    _build(source, tmp_path / "dist", "--sdist", umask=0o077)
    [first], [second] = built.glob("*.tar.gz"), (tmp_path / "dist").glob("*.tar.gz")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_wheel_holds_exactly_the_tree(wheel: Path) -> None:
    """A forgotten package or data file would be missing from the wheel, and a stray one would be in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == _expected()


def test_wheel_imports_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    """Every public name of the installed wheel can be imported with the sources out of reach."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import stepout, stepout.testing\n"
        "[getattr(stepout, name) for name in stepout.__all__]\n"
        "assert stepout.__file__.startswith(sys.argv[1]), stepout.__file__\n"
        "assert stepout.schemas.schema('pointer')['$id'] == 'urn:stepout:schema:pointer:1'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "site")], check=True, cwd=tmp_path)


def test_the_lambda_zip_of_an_install_has_each_file_once(wheel: Path, tmp_path: Path) -> None:
    """In an install the packages lie in the folder of stepout, in a checkout beside it: the zip is the same."""
    from stepout.local import lambda_zip

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom stepout.local import lambda_zip\n"
    code += "open(sys.argv[2], 'wb').write(lambda_zip())\n"
    made = tmp_path / "installed.zip"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "site"), str(made)], check=True, cwd=tmp_path)
    with zipfile.ZipFile(made) as archive:
        installed = archive.namelist()
    with zipfile.ZipFile(io.BytesIO(lambda_zip())) as archive:
        checkout = archive.namelist()
    assert len(installed) == len(set(installed))
    assert set(installed) == set(checkout) == _expected()
