"""What local Lambda functions run in, and what they are given: a Python of their own, layers, stepout as a zip.

The Python is a private virtual environment with a runtime's own packages and nothing of the project's environment. Its
packages are links to those that are installed here; nothing is downloaded, nor copied where the system has symbolic
links.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

from stepout.schemas.errors import ConfigurationError

_PROVIDED = "boto3"
"""What AWS's Python runtimes come with, and what that requires
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def python_runtime(folder: Path) -> str:
    """Return the path of an interpreter that sees what a Lambda runtime brings; make it if it is not there.

    Args:
        folder: Where it is, or is made.
    """
    builder = venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False)
    context = builder.ensure_directories(folder)
    packages = _site_packages(folder)
    if not (packages / _PROVIDED).exists():
        builder.create(folder)
        link_distributions(packages, _PROVIDED)
    return str(context.env_exe)


def _site_packages(folder: Path) -> Path:
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def link_distributions(folder: Path, *names: str) -> None:
    """Make installed distributions and their dependencies importable from a folder, and no others.

    Args:
        folder: The folder; it is created.
        names: Of the distributions, for example ``"pyarrow"``.

    Raises:
        ConfigurationError: One of ``names`` is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for distribution in _closure(names):
        for root in sorted({file.parts[0] for file in distribution.files or () if _importable(file.parts[0])}):
            source, place = Path(str(distribution.locate_file(root))), folder / root
            if source.exists() and not place.exists():
                _link(source, place)


def _importable(root: str) -> bool:
    return root not in {"..", "__pycache__"} and not root.endswith(".pth") and not Path(root).is_absolute()


def _closure(names: tuple[str, ...]) -> list[metadata.Distribution]:
    """Return the distributions and what they require without extras, each once."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in {re.sub(r"[-_.]+", "-", each).lower() for each in names}:
                raise ConfigurationError(_missing(name)) from None
            continue  # required under a marker that does not hold here
        for requirement in distribution.requires or ():
            match = _NAME.match(requirement)
            if match is not None and "extra ==" not in requirement:
                waiting.append(match[0])
    return list(found.values())


def _missing(name: str) -> str:
    """What to tell of a package that is not installed; a module's name in place of its package's is named."""
    packages = {module.lower(): found for module, found in metadata.packages_distributions().items()}
    if found := packages.get(name.replace("-", "_")):
        return f"{name} is the name of a module; write the name of its package, as pip has it: {found[0].lower()}"
    return f"{name} is not installed here, so no local Lambda can be given it"


def _link(source: Path, place: Path) -> None:
    try:
        place.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:  # Windows gives the right to link to developers only
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copyfile(source, place)


def layer_zip(folder: Path) -> bytes:
    """Return a Lambda layer that adds a folder of this machine to what functions can import.

    Args:
        folder: The folder.
    """
    buffer = io.BytesIO()
    place = f"python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/stepout-local.pth"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(place, f"{folder.resolve()}\n")
    return buffer.getvalue()


def lambda_zip() -> bytes:
    """Return a zip of this very stepout, and nothing else: a layer brings pyarrow and Pillow, as on AWS.

    Each file is in it once. In a checkout the folder of ``stepout`` has links to those of its packages, which are not
    followed; of an install it has the packages themselves.
    """
    import stepout.artifacts
    import stepout.callbacks
    import stepout.schemas

    files: dict[str, Path] = {}
    for package in (stepout, stepout.artifacts, stepout.callbacks, stepout.schemas):
        folder = Path(package.__path__[0])
        for path in folder.rglob("*"):
            if path.suffix in {".py", ".json", ".toml", ".typed", ".html", ".css"}:
                files[f"{package.__name__.replace('.', '/')}/{path.relative_to(folder).as_posix()}"] = path
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.write(files[name], name)
    return buffer.getvalue()
