"""What MkDocs does beyond its configuration: pages from outside ``docs/``, and links that lead there.

The pages are read in the repository too, where a link leads to any file. In the site, the documents of the root folder
and the examples become pages of their own, and a link to one of them leads there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
_LANGUAGES: Final = {".json": "json", ".py": "python", ".sh": "sh", ".sql": "sql", "": "docker"}
_LINK: Final = re.compile(r"(\]\()(?P<target>[^)\s#:]+)(?P<rest>#[^)\s]*)?(\))")

EXAMPLES: Final = sorted(each.parent.name for each in ROOT.glob("examples/*/README.md"))

ADOPTED: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "examples/README.md": "examples/index.md",
    **{f"examples/{name}/README.md": f"examples/{name}.md" for name in EXAMPLES},
}
"""Pages of the site that stand outside ``docs/``, by their paths from the root."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside ``docs/``."""
    for source, page in ADOPTED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text + _listings(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each link to a file of the repository to its page in the site."""
    del config
    here = page.file.src_uri
    source = next((source for source, adopted in ADOPTED.items() if adopted == here), f"docs/{here}")

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        led_to = page_of(target)
        if led_to is None or files.get_file_from_path(led_to) is None:
            raise PluginError(f"{source} links to {target}, which is no page of the site: see docs/hooks.py")
        return f"{match[1]}{posixpath.relpath(led_to, posixpath.dirname(here) or '.')}{match['rest'] or ''}{match[4]}"

    return _LINK.sub(led, markdown)


def page_of(path: str) -> str | None:
    """Return the page of the site that shows a file or folder of the repository.

    Args:
        path: From the root, with ``/``.
    """
    if path in ADOPTED:
        return ADOPTED[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "examples" or path.startswith("examples/"):
        readme = posixpath.join(*path.split("/")[:2], "README.md")
        return ADOPTED.get(readme)
    return None


def _listings(source: str) -> str:
    """Return an example's files as blocks, for a reader who has no clone."""
    folder = (ROOT / source).parent
    if folder.parent.name != "examples":
        return ""
    listings = []
    files = (each for each in folder.iterdir() if each.suffix in _LANGUAGES and each.is_file())  # no wheel built there
    for file in sorted(files):
        text = file.read_text(encoding="utf-8").rstrip()
        listings.append(f"\n## `{file.name}`\n\n```{_LANGUAGES[file.suffix]}\n{text}\n```\n")
    return "".join(listings)
