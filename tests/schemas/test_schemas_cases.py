"""Every case file, through the validator and through the parser."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import pytest
from support.schema_cases import DocumentCase, TextCase, document_cases, text_cases

from stepout.schemas import Pointer, TaskOutput, load_json, validate
from stepout.schemas.errors import InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepout.schemas import Problem

POINTERS, OUTPUTS, TEXTS = document_cases("pointer"), document_cases("output"), text_cases()


def kinds(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    """Return locations and kinds, sorted."""
    return sorted((problem.location, problem.kind) for problem in problems)


def parsed(parse: Callable[[Any], object], document: Any) -> list[tuple[str, str]]:
    """Return what the parser finds wrong; nothing where it accepts."""
    try:
        parse(document)
    except InvalidDocumentError as error:
        return kinds(error.problems) or [("$", "an error without problems")]
    return []


def check(case: DocumentCase, name: Literal["pointer", "output"], parse: Callable[[Any], object]) -> None:
    """Compare both verdicts with the case's."""
    assert kinds(validate(case.document, name)) == case.problems
    assert parsed(parse, case.document) == case.problems


@pytest.mark.parametrize("case", POINTERS, ids=lambda case: case.why)
def test_validator_and_parser_find_what_the_case_says_in_a_pointer(case: DocumentCase) -> None:
    """Both report the same locations and kinds for a pointer."""
    check(case, "pointer", Pointer.from_dict)


@pytest.mark.parametrize("case", OUTPUTS, ids=lambda case: case.why)
def test_validator_and_parser_find_what_the_case_says_in_an_output(case: DocumentCase) -> None:
    """Both report the same locations and kinds for an output."""
    check(case, "output", TaskOutput.from_dict)


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.why)
def test_reader_finds_what_the_case_says_in_a_text(case: TextCase) -> None:
    """JSON text is read strictly, as text and as bytes."""
    assert parsed(load_json, case.text) == case.problems
    if isinstance(case.text, str):
        assert parsed(load_json, case.text.encode()) == case.problems


def test_cases_are_many_and_named_apart() -> None:
    """There are at least 60 invalid documents, and no two cases of a file share their name."""
    assert sum(bool(case.problems) for case in [*POINTERS, *OUTPUTS]) >= 60
    for cases in (POINTERS, OUTPUTS, TEXTS):
        assert Counter(case.why for case in cases).most_common(1)[0][1] == 1


def test_messages_of_all_cases_quote_no_value() -> None:
    """No message holds a piece of text from a document's values."""
    secret = "hunter2-hunter2"
    parsers: dict[str, Callable[[Any], object]] = {"pointer": Pointer.from_dict, "output": TaskOutput.from_dict}
    for name, parse in parsers.items():
        for case in document_cases(name):
            document = _with_secret(case.document, secret)
            with_secret = validate(document)
            assert not any(secret in str(problem) for problem in with_secret), case.why
            assert secret not in said(parse, document), case.why


def said(parse: Callable[[Any], object], document: Any) -> str:
    """Return the message of the parser's error."""
    try:
        parse(document)
    except InvalidDocumentError as error:
        return str(error)
    return ""


def _with_secret(value: Any, secret: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_secret(child, secret) for name, child in value.items()}
    if isinstance(value, list):
        return [_with_secret(child, secret) for child in value]
    return f"{value}\x00{secret}" if isinstance(value, str) and "/1" not in value else value
