"""The page of the documents: members from the JSON Schemas, limits from the code's constants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.dataset_manifest import DATASET_FILES_LIMIT, MANIFEST_VERSION
from stepout.artifacts.directory_listing import LINES_VERSION, LISTING_LIMIT, PATH_LIMIT
from stepout.artifacts.listing import FILES_LIMIT
from stepout.artifacts.media_types import DATASET
from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.writing.item_reader import ITEM_MOST
from stepout.schemas import schema
from stepout.schemas.pull import FAILURE_LIMIT, ITEM_NAMES
from stepout.schemas.spill import DEFAULT_BUDGET, MAX_BUDGET
from stepout.schemas.text.json_text import SIZE_LIMIT
from stepout.schemas.text.json_value import DEPTH_LIMIT, INTEGER_LIMIT
from stepout.schemas.text.locations import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINNING = """\
# Documents

Two JSON documents travel through a state machine: the *pointer* names one artifact, the *task output* is what a task
returns. Their JSON Schemas (2020-12) are the truth. `stepout schema pointer` and `stepout schema output` print them;
`stepout schema output --check FILE` checks a file. From Python: [documents](python/documents.md).

- A reader keeps members that it does not know, and writes them back.
- An optional member is absent. It is never null.
- New members can come without a new version. A breaking change is `pointer/2` or `output/2`.
- The `$id` of a schema is a URN. Nothing is ever fetched to validate a document.
- No document holds a task token, a credential or a presigned URL.
- What a document says is not trusted: the reader says which buckets it may name, and verifies what it reads.
"""

_POINTER = """\

## Pointer

Names one artifact: where it is, how large it is, and what its bytes hash to.

"""

_OUTPUT = """\

## Task output

What a task returns: named pointers and a small result. An artifact's name has letters, digits and `_`, and does not
begin with a digit, so that `$.artifacts.features.bucket` works in JSONPath and in JSONata.

"""

_SPILL = """\

A document that is larger than its budget *spills*. First the result moves into an artifact: `result` is then a pointer.
If that is not enough, the whole document moves, and a short one with a `manifest` takes its place. It has neither
`artifacts` nor `result`, and paths into them no longer work in the state machine; a warning in the log says so.
`resolve_output` follows both. A manifest never leads to another manifest.

"""

_OTHERS = f"""\

## Directory listing

What the pointer of a directory artifact names: JSON Lines, media type `application/vnd.stepout.directory+jsonl`.

```text
{{"stepout":"{LINES_VERSION}"}}
{{"path":"a/b.txt","size":3,"sha256":"98ea6e4f…","etag":"\\"764efa88…\\""}}
{{"path":"logs/"}}
{{"bucket":"results-bucket","folder":"runs/…/d","mediaTypes":{{".txt":"text/plain; charset=utf-8"}},"files":1,…}}
```

- The first line has `stepout`.
- One line for each file, sorted by path: `path`, `size`, `sha256`, and `versionId` or `etag`. A program has
  `"executable": true`. `key` and `mediaType` are there if they do not follow from the path.
- One line for each empty folder: `path`, with a slash at its end.
- The last line is the index: `bucket`, `folder` (a file's key is `folder/path`), `mediaTypes` by extension, what all
  files share, `files`, `folders`, `bytes`, `tree`, `stretches`.

`tree` is a digest of the content: two directories with the same files have the same, wherever they are. `stretches` has
the first path, the first byte and the SHA-256 of each stretch of lines. So one file of many costs two small requests,
and both are verified. The annotations of the pointer say where the index begins and which SHA-256 it has.

## Dataset manifest

What the pointer of a dataset names: JSON, media type `{DATASET}`. It is written after every file.

| member | meaning |
| --- | --- |
| `stepout` | `{MANIFEST_VERSION}` |
| `schema` | the Arrow schema as an IPC message, in base64; the partition columns come last |
| `partitioning` | `{{"flavor": "hive", "columns": ["day"]}}` |
| `rows` | how many rows all files have together |
| `files[].path` | `day=2026-01-01/part-00000.parquet`: a folder for each partition column, and a file in it |
| `files[].rows` | how many rows the file has |
| `files[].partition` | the value of each partition column, as text or null |
| `files[].pointer` | the file's pointer |
| `files[].statistics` | optional: the least and the greatest value of columns; a hint, no rows are skipped by it |

## Commit record

`_output.json` beside the artifacts is the task output as it was reported.
[What it is for](../explanation/commit-records.md).

## Pull mode

| document | what it is |
| --- | --- |
| `s3://bucket/key` | the task output of a success |
| `s3://bucket/key.ATTEMPT-NONCE.failure.json` | `{{"error": "…", "cause": "…"}}`, one for each attempt that failed |
| `dynamodb://table/key` | one item with the attributes {{ITEM}}; `status` is `SUCCEEDED` or `FAILED` |

[How it works](../how-to/pull-mode.md).
"""


def documents_page() -> str:
    """Return the page's Markdown."""
    pointer, output = schema("pointer"), schema("output")
    items = ", ".join(f"`{name}`" for name in sorted(ITEM_NAMES))
    parts = [
        _BEGINNING,
        _POINTER,
        _table(pointer),
        "\nWith every member that most pointers have:\n\n",
        _block(pointer["examples"][0]),
        "\nWith no more than what is required:\n\n",
        _block(pointer["examples"][1]),
        _OUTPUT,
        _table(output),
        "\n",
        _block(output["examples"][0]),
        _SPILL,
        _block(output["examples"][1]),
        _OTHERS.replace("{ITEM}", items),
        _limits(),
    ]
    return "".join(parts)


def _table(document: dict[str, Any]) -> str:
    rows = ["| member | type | required | meaning |\n| --- | --- | --- | --- |\n"]
    rows += [f"| {' | '.join(row)} |\n" for row in _rows(document, "")]
    return "".join(rows)


def _rows(part: dict[str, Any], above: str) -> Iterator[tuple[str, str, str, str]]:
    required = set(part.get("required", ()))
    for name, rule in part["properties"].items():
        needed = "yes" if name in required or _always(part, name) else "no"
        yield f"`{above}{name}`", _kind(rule), needed, _meaning(rule)
        if "properties" in rule:
            yield from _rows(rule, f"{above}{name}.")
        if isinstance(other := rule.get("additionalProperties"), dict):
            yield f"`{above}{name}.NAME`", _kind(other), "no", _meaning(other) or "One artifact, by its name."


def _always(part: dict[str, Any], name: str) -> bool:
    """Whether a member is required wherever there is no manifest."""
    return name in part.get("else", {}).get("required", ())


_TYPES: Final = {"string": "text", "integer": "whole number", "object": "object"}


def _kind(rule: dict[str, Any]) -> str:
    if "const" in rule:
        return f'`"{rule["const"]}"`'
    if "$ref" in rule:
        return "pointer"
    title = str(rule.get("title", ""))
    plain = {"text without control characters", "a whole number"}
    kind = _TYPES[rule["type"]]
    bounds = f", at most {rule['maxLength']:,} characters" if title == "text without control characters" else ""
    own = f": {title}" if rule["type"] == "string" and title not in plain else ""
    return f"{kind}{own}{bounds}"


def _meaning(rule: dict[str, Any]) -> str:
    return str(rule.get("description", "")).replace("|", "\\|")


def _block(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


def _limits() -> str:
    budget = ReadBudget()
    rows = {
        "task output, before it spills": f"{DEFAULT_BUDGET:,} bytes of UTF-8 by default, {MAX_BUDGET:,} with "
        "`STEPOUT_OUTPUT_BUDGET`",
        "input or output of a state (Step Functions)": "262,144 bytes",
        "key": f"{MAX_KEY_BYTES:,} bytes; longer ones are shortened by a hash",
        "whole number": f"{INTEGER_LIMIT:,}, which every JSON reader keeps exactly",
        "nesting of JSON": f"{DEPTH_LIMIT} levels",
        "JSON document that is read": f"{SIZE_LIMIT >> 20} MiB",
        "directory": f"{FILES_LIMIT:,} files and empty folders; {PATH_LIMIT:,} characters of a path; "
        f"{LISTING_LIMIT >> 30} GiB of the listing",
        "dataset": f"{DATASET_FILES_LIMIT:,} files",
        "item of `write_item_reader_manifest`": f"{ITEM_MOST:,} bytes",
        "failure document": f"{FAILURE_LIMIT >> 10} KiB; of it 256 characters of `error` and 32,768 of `cause`",
        "what one document may lead to": f"{budget.requests:,} requests, {budget.entries:,} entries, "
        f"{budget.bytes >> 30} GiB by default (`ReadBudget`)",
    }
    lines = "".join(f"| {what} | {limit} |\n" for what, limit in rows.items())
    return f"\n## Limits\n\n| what | at most |\n| --- | --- |\n{lines}"
