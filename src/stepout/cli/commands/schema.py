"""``stepout schema``: the documents' JSON Schemas, and a check against them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stepout.cli.options import add_json, document_text
from stepout.cli.printing import print_json
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    import argparse

    from stepout.schemas.problems import Problem

_EPILOG = """\
examples:
  stepout schema output > output.schema.json
  stepout schema --check output.json pointer.json      (each by the schema that it names)
  stepout schema pointer --check -                     (as a pointer, whatever it calls itself)

The schemas are JSON Schema 2020-12 and are named by URN; output refers to pointer. Nothing is fetched.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout schema``."""
    parser.epilog = _EPILOG
    parser.add_argument("name", nargs="?", choices=("pointer", "output"), help="which schema")
    parser.add_argument("--check", nargs="+", metavar="FILE", help="list every problem of these documents; - for stdin")
    add_json(parser)
    parser.set_defaults(run=_schema)


def _schema(arguments: argparse.Namespace) -> int:
    from stepout.schemas.validation import schema

    if arguments.check:
        return _check(arguments)
    if arguments.name is None:
        raise ConfigurationError("schema: which one? Say pointer or output, or --check FILE")
    print_json(schema(arguments.name), one_line=arguments.json)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    findings = {source: _problems(source, arguments.name) for source in arguments.check}
    if arguments.json:
        documents = [{"source": source, "problems": list(map(_as_dict, each))} for source, each in findings.items()]
        print_json({"ok": not any(findings.values()), "documents": documents})
    else:
        for source, problems in findings.items():
            sys.stdout.write(f"{shown(source)}: {_verdict(len(problems))}\n")
            sys.stdout.writelines(f"  {shown(problem, None)}\n" for problem in problems)
    return 1 if any(findings.values()) else 0


def _problems(source: str, name: str | None) -> list[Problem]:
    from stepout.schemas.validation import validate

    try:
        document = load_json(document_text(source))
    except InvalidDocumentError as error:
        return list(error.problems)
    return validate(document, "pointer" if name == "pointer" else "output" if name == "output" else None)


def _verdict(count: int) -> str:
    return "valid" if count == 0 else "1 problem" if count == 1 else f"{count} problems"


def _as_dict(problem: Problem) -> dict[str, str]:
    return {"location": problem.location, "kind": problem.kind, "message": problem.message}
