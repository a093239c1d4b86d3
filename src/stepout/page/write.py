"""Write the page of a run: collect what there is to see, and put one HTML file where it was asked for, whole or not."""

from __future__ import annotations

import contextlib
import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepout.artifacts.allow import Allowed, AnyBucket
    from stepout.page.budget import PageBudget


def write_page(  # noqa: PLR0913 - keyword-only, each with its own meaning
    source: object,
    path: str | os.PathLike[str],
    *,
    allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None = None,
    budget: PageBudget | None = None,
    client: Any = None,
    step_functions: Any = None,
    expected_bucket_owner: str | None = None,
    request_payer: str | None = None,
    allow_expired: bool = False,
) -> Path:
    """Write a page that shows a run: when its states ran, what failed and why, what came out, and what is inside.

    The page is one HTML file that loads nothing and runs no script. What its artifacts hold is read within a budget,
    verified, and only where ``allow`` permits it. What could not be read is a card that says so.

    Args:
        source: What to look at: the ARN of an execution; an output document as a value, JSON, a file or an ``Output``;
            the URL of a pull-mode outcome; the URL of a ResultWriter's manifest. A list or tuple holds several.
        path: Where the page goes. A file that is there is replaced, once the new one is complete.
        allow: What may be read: ``["s3://bucket/prefix/"]`` or ``stepout.ANY_BUCKET``; ``None``: ``STEPOUT_ALLOW``.
        budget: What reading may cost; ``None``: 64 MiB, 500 requests and 60 s.
        client: A boto3 S3 client or a ``Store``; ``None``: one of our own.
        step_functions: A boto3 client for ``stepfunctions``; ``None``: one of our own.
        expected_bucket_owner: Refuse buckets of any other account.
        request_payer: ``"requester"`` pays for requests to buckets whose owner does not.
        allow_expired: Also ask for what has expired by now.

    Returns:
        Where the page is.

    Raises:
        ConfigurationError: The extra "page" is not installed; or the source is nothing that a page can show, or an
            execution that cannot be looked at. The message says what to do.
        OSError: A file cannot be read or written.
    """
    require_page()
    from stepout.page.collect import collect_run
    from stepout.page.rendering.render import render_page

    page = collect_run(
        list(source) if isinstance(source, list | tuple) else [source],
        allow=allow,
        budget=budget,
        client=client,
        step_functions=step_functions,
        expected_bucket_owner=expected_bucket_owner,
        request_payer=request_payer,
        allow_expired=allow_expired,
    )
    return save_page(render_page(page), path)


def require_page() -> None:
    """Make sure that pages can be rendered.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    if find_spec("jinja2") is None:
        raise ConfigurationError('a page needs the package jinja2: install stepout with its extra "page"')


def save_page(html: str, path: str | os.PathLike[str]) -> Path:
    """Write a page: whole, or not at all. What is no ordinary file, such as ``/dev/stdout``, is written to as it is.

    Args:
        html: The page.
        path: Where it goes.

    Returns:
        The same place.

    Raises:
        OSError: It cannot be written there. It names ``path``.
    """
    try:
        _replace(Path(os.path.realpath(path)), html.encode("utf-8", "backslashreplace"))
    except OSError as error:
        if error.errno is None:
            raise
        # What failed may be the file beside it, a name that nobody has given.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    return Path(path)


def _replace(target: Path, content: bytes) -> None:
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(content)
        return
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    try:
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
