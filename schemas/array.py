"""Array jobs: many children of one job, with one environment but for an index, each with an outcome of its own. Pure.

All children of an AWS Batch array job, and all Pods of a Kubernetes Indexed Job, are given the same ``STEPOUT_OUTPUT``.
The index, which the service sets from 0 on, keeps them apart: in the run's identity (``mapIndex``) and in the URL.
https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html,
https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.locations import split_s3_url, table_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INDEX_VARIABLES: Final = ("AWS_BATCH_JOB_ARRAY_INDEX", "JOB_COMPLETION_INDEX")
"""Who is which child, as Batch and Kubernetes say it; of two that are set, the first one."""

INDEX_MARK: Final = "{index}"
"""Where the index goes in the URL of an outcome; without it, behind a slash at the URL's end."""

_INDEX: Final = re.compile(r"[0-9]{1,9}")
_RANGES: Final = 12
_CHILD: Final = re.compile(r"/?([0-9]{1,9})(?:\.[^/]*\.failure\.json)?")


def array_index(environ: Mapping[str, str]) -> str | None:
    """Return which child of an array job an environment belongs to; ``None`` for any other task.

    Raises:
        ConfigurationError: The variable holds something else than an index.

    >>> array_index({"AWS_BATCH_JOB_ARRAY_INDEX": "3"}), array_index({"JOB_COMPLETION_INDEX": ""})
    ('3', None)
    """
    for name in INDEX_VARIABLES:
        text = environ.get(name, "").strip()
        if text and not _INDEX.fullmatch(text):
            raise ConfigurationError(f"{name} is something else than the index of an array job's child: 0, 1, 2, …")
        if text:
            return str(int(text))
    return None


def child_url(url: str, index: int | str) -> str:
    """Return the URL of one child's outcome.

    Args:
        url: The one that the whole array was given.
        index: Which child.

    >>> child_url("s3://results/7f3c/Mask.json", 3), child_url("s3://results/7f3c/Mask-{index}.json", 3)
    ('s3://results/7f3c/Mask.json/3', 's3://results/7f3c/Mask-3.json')
    """
    if INDEX_MARK in url:
        return url.replace(INDEX_MARK, str(index))
    return f"{url.removesuffix('/')}/{index}"


def own_url(url: str, environ: Mapping[str, str]) -> str:
    """Return where the task of an environment reports to: a child's own place if it is one of an array.

    Args:
        url: As ``STEPOUT_OUTPUT`` or ``STEPOUT_TARGETS`` says it. One without a key stays as it is: it is refused, or
            its key is made of the run's identity, which has the index.
        environ: The task's environment.

    Raises:
        ConfigurationError: The URL needs an index, and the process has no index.
    """
    index = array_index(environ)
    if index is None:
        if INDEX_MARK in url:
            raise ConfigurationError(
                f"the URL of the outcome has {INDEX_MARK}, which stands for the index of an array job's child, and "
                f"neither {' nor '.join(INDEX_VARIABLES)} is set: is this an array job? (A Map's index goes into the "
                "URL with States.Format)"
            )
        return url
    return child_url(url, index) if _has_key(url) else url


def _has_key(url: str) -> bool:
    """Tell whether an index makes another place of a URL; a wrong one stays as it is, for its target to refuse."""
    try:
        if url.startswith("s3://"):
            return bool(split_s3_url(url)[1].strip("/"))
        return not url.startswith("dynamodb://") or table_place(url).key is not None
    except ValueError:
        return False


def is_of_array(url: str) -> bool:
    """Tell whether a URL shows that it is the place of a whole array job, and of no single task.

    >>> is_of_array("s3://results/{index}.json"), is_of_array("s3://results/7f3c/"), is_of_array("s3://results/")
    (True, True, False)
    """
    return INDEX_MARK in url or (url.startswith("s3://") and url.endswith("/") and _has_key(url))


def checked_count(count: object) -> int:
    """Return the number of an array job's children if it is one.

    Raises:
        ConfigurationError: It is no whole number from 1 on.
    """
    if isinstance(count, int) and not isinstance(count, bool) and count >= 1:
        return count
    raise ConfigurationError(f"count={count!r}: expected how many children the array job has, a whole number from 1 on")


def child_in(rest: str) -> str | None:
    """Return the index of the child that a key belongs to, given what it has beyond the key of the whole array.

    >>> child_in("/12"), child_in("/12.0-a1b2.failure.json"), child_in("/12/features.parquet"), child_in("/log")
    ('12', '12', None, None)
    """
    found = _CHILD.fullmatch(rest)
    return found.group(1) if found else None


def unfilled(url: str, *, seen: int | None = None, how: str = "pass count= to stepout.resolve_all") -> str:
    """Return the message for a caller who asks for one output at the URL of a whole array.

    Args:
        url: The URL.
        seen: How many children's outcomes were seen there; ``None``: the URL itself shows what it is.
        how: What to do.
    """
    shows = (
        f"it has {INDEX_MARK}, or ends in a slash" if seen is None else f"outcomes of {seen} children or more lie there"
    )
    return (
        f"{url} is the place of an array job ({shows}), and no child's output stands for the whole: {how}, the number "
        f"of its children; one child's outcome lies at {child_url(url, 0)} and so on"
    )


def index_ranges(indices: Iterable[int]) -> str:
    """Return indices for people, runs of them as ranges, a dozen at most.

    >>> index_ranges([0, 3, 4, 5, 9])
    '0, 3-5, 9'
    """
    ordered = sorted(set(indices))
    runs = [
        [index for _, index in run]
        for _, run in itertools.groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    ]
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:_RANGES]]
    left = sum(len(run) for run in runs[_RANGES:])
    return ", ".join(shown) + (f" and {left:,} more" if left else "")
