"""Fan-in: the children of a Map, of an array job or of a prefix of commit records, one by one or as one table.

What is read, and how, stands in ``reading``: ``children`` and ``recorded_children`` have the four sources.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.documents.given_document import given_value, is_outcome_url
from stepout.schemas.array import checked_count
from stepout.schemas.errors import ConfigurationError, invalid_document
from stepout.schemas.problems import Problem
from stepout.schemas.text.locations import split_s3_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal, Unpack

    from stepout.artifacts.reading.access import Access, ReadOptions, Verify
    from stepout.artifacts.reading.fan_in.children import Child, Order
    from stepout.artifacts.reading.fan_in.recorded_children import Prefer


def gather(  # noqa: PLR0913 - keyword-only, each with its own meaning
    source: object,
    *,
    on_error: Literal["yield", "raise"] = "yield",
    order: Order = "arrival",
    resume: str | None = None,
    execution: str | None = None,
    count: int | None = None,
    prefer: Prefer | None = None,
    verify: Verify = True,
    **options: Unpack[ReadOptions],
) -> Iterator[Child]:
    """Read the children of a fan-in one by one, however many there are, failed ones included.

    A child of a result file is provisional until the file ends: it is compared with S3's checksum then, and one that
    differs, or is cut off, is a child of its own, with ``index`` -1, the file's name and an ``IntegrityError`` or
    ``InvalidDocumentError``; the files behind it go on. What a child's pointers lead to is verified as always.

    Args:
        source: What a Distributed Map with a ``ResultWriter`` returned, or the URL of its ``manifest.json``; the list
            that an inline Map (or a Distributed Map without a writer) returned; with ``count``, the URL that an array
            job was given; or ``s3://bucket/prefix/``, which stands for every commit record below it.
        on_error: ``"yield"``: a child with an ``error``; ``"raise"``: that error, pending children's included.
        order: Of an array job: ``"arrival"``, or ``"index"``, for which up to 256 outcomes are held, and each 256 wait
            for the slowest of them. All other sources come by index in any case.
        resume: The ``position`` of a child: it and everything that was yielded before it are passed over. A result file
            is taken up at that byte, held to its ETag; what is left of it is not compared with its checksum.
        execution: The ARN of the execution that all children must be of, or be started by.
        count: How many children the array job has.
        prefer: ``"latest"``: of several records of one child take the one that was written last, by S3's clock, then by
            the attempt's number; ``None``: they are an error of that child.
        verify: As for ``resolve_output``.
        options: The other keywords of ``resolve_output``. One ``budget`` for everything that a manifest leads to; each
            child of an array job, and each record, is a document with a budget of its own, and the records and the
            requests that list them are counted together. ``max_size`` is also the largest result file that is read;
            ``None``: any, as none is held whole.

    Yields:
        Each child; see ``Child``.

    Raises:
        ConfigurationError: An argument is invalid.
        InvalidDocumentError: The source is none of the four, or its manifest is invalid.
        NotAllowedError: The manifest, one of its files or the prefix lies outside the allow-list.
        ReadBudgetError: The source leads to more than the budget.
        StoreError: The manifest is missing, denied or unreachable; or an outcome or a listing is denied or unreachable.
    """
    _check_choice("on_error", on_error, ("yield", "raise"))
    access = access_from(verify=verify, **options)
    children = _children(source, access, execution, order, count, prefer, resume)
    return children if on_error == "yield" else _without_errors(children)


def gather_table(  # noqa: PLR0913 - keyword-only, each with its own meaning
    source: object,
    name: str = "features",
    *,
    on_error: Literal["raise", "skip"] = "raise",
    execution: str | None = None,
    count: int | None = None,
    prefer: Prefer | None = None,
    verify: Verify = True,
    **options: Unpack[ReadOptions],
) -> Any:
    """Return the tables of all children of a fan-in as one lazy ``pyarrow.dataset.Dataset``, verified when it is read.

    The rows are in the order of the children's indices. Nothing but the children's outputs, the manifests of datasets
    among their tables, and the first file's footer is read before a scan; the dataset pickles, as ``Artifact.dataset``
    does. It needs pyarrow.

    Args:
        source: As for ``gather``; all of it is read, so that nothing of it is provisional.
        name: Of the artifact that each child has: a Parquet file, a dataset, or a directory of Parquet files.
        on_error: ``"raise"``: the first child's error; ``"skip"``: children with an error, and those without such an
            artifact, are left out, and a warning is logged that says how many.
        execution: As for ``gather``.
        count: As for ``gather``.
        prefer: As for ``gather``.
        verify: As for ``resolve_output``.
        options: As for ``gather``.

    Raises:
        ConfigurationError: An argument is invalid, or pyarrow is not installed.
        InvalidDocumentError: A child's columns or partition columns are not those of the first one; a file's are
            compared when it is opened, and raise this out of the scan. Or no child has such a table.
        UndecodableError: The first file is no Parquet.
        StepoutError: As for ``gather``, and what ``on_error="raise"`` raises.
    """
    from stepout.artifacts.reading.fan_in.gathered_table import table_of

    _check_choice("on_error", on_error, ("raise", "skip"))
    access = access_from(verify=verify, **options)
    children = _children(source, access, execution, "arrival", count, prefer, None)
    return table_of(children, name, access, skip=on_error == "skip")


# Inside -----------------------------------------------------------------------------------------------------------


def _check_choice(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name}={value!r}: expected {' or '.join(map(repr, known))}. Nothing was read")


def _children(  # noqa: PLR0913, PLR0917 - what ``gather`` was told
    source: object,
    access: Access,
    execution: str | None,
    order: Order,
    count: int | None,
    prefer: Prefer | None,
    resume: str | None,
) -> Iterator[Child]:
    _check_choice("order", order, ("arrival", "index"))
    _check_choice("prefer", prefer, (None, "latest"))
    if is_outcome_url(source):
        return _children_at(source.strip(), access, execution, order, count, prefer, resume)
    if count is not None or prefer is not None:
        raise ConfigurationError("count= and prefer= are for URLs: this is a document. Nothing was read")
    return _children_in(given_value(source, access), access, execution, resume)


def _without_errors(children: Iterator[Child]) -> Iterator[Child]:
    for child in children:
        if child.error is not None:
            raise child.error
        yield child


def _children_at(  # noqa: PLR0913, PLR0917 - what ``gather`` was told
    url: str,
    access: Access,
    execution: str | None,
    order: Order,
    count: int | None,
    prefer: Prefer | None,
    resume: str | None,
) -> Iterator[Child]:
    from stepout.artifacts.reading.documents.foreign import ForeignReference
    from stepout.artifacts.reading.fan_in.children import children_of_array, children_of_manifest
    from stepout.artifacts.reading.fan_in.recorded_children import children_of_records

    if prefer is not None and (count is not None or not url.endswith("/")):
        raise ConfigurationError("prefer= is for a prefix of commit records, s3://bucket/prefix/. Nothing was read")
    if count is not None:
        return children_of_array(access, url, checked_count(count), execution, order, resume)
    bucket, key = "", ""
    with suppress(ValueError):
        bucket, key = split_s3_url(url)
    if bucket and url.endswith("/"):
        return children_of_records(access, bucket, key, execution, prefer, resume)
    if bucket and key.endswith("manifest.json"):
        return children_of_manifest(access, ForeignReference("result-writer", bucket, key), execution, resume)
    message = "is no ResultWriter's manifest.json and no prefix that ends in a slash; an array job's URL wants count="
    raise invalid_document("the URL", [Problem("$", "pattern", message)], "Nothing was read.")


def _children_in(value: Any, access: Access, execution: str | None, resume: str | None) -> Iterator[Child]:
    from stepout.artifacts.reading.fan_in.children import children_of_items, children_of_manifest
    from stepout.artifacts.reading.fan_in.result_writer import the_manifest

    if isinstance(value, list):
        return children_of_items(access, value, execution, resume)
    return children_of_manifest(access, the_manifest(value, ", and is no list"), execution, resume)
