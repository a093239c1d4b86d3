"""The doctor's look at who reports with a task token, where there is one, and which services can wait for it (SO1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from stepout.doctor.json_lookup import at, names_within, text, walk
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Finding, Severity
    from stepout.doctor.states import State

Reporter = Literal["program", "person", "unknown"]
"""Who reports with a token: a program that may beat; a person, who does not; or one of both."""

_RUNS_PROGRAMS = frozenset({"ecs", "eks", "batch", "glue"})
_ASKS_PEOPLE = frozenset({"sns", "ses", "sesv2", "pinpoint", "chatbot", "connect"})
_PERSON = re.compile(
    r"(?<![a-z])(?:approv|human|person|people|manual|review|confirm|consent|sign-?off|decision|decide|feedback|"
    r"e-?mail|slack|teams|notif|ask|user|manager|analyst|operator|reject|accept)",
    re.IGNORECASE,
)
_OURS = "STEPOUT_"

# The table of https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html; EKS is SO108's.
_NO_TOKEN = frozenset(
    {
        "athena",
        "batch",
        "codebuild",
        "databrew",
        "dynamodb",
        "elasticmapreduce",
        "emr-containers",
        "emr-serverless",
        "glue",
        "http",
        "mediaconvert",
        "sagemaker",
    }
)
_NO_SYNC = frozenset({"apigateway", "dynamodb", "events", "http", "lambda", "sns", "sqs"})


def reporter_of(state: State) -> Reporter:
    """Return who probably reports for a state that waits.

    Containers and workers are programs. SNS, SES, SQS, Lambda and the like hand a token to either: to a program where
    stepout's variables go with it, to a person where the service or the words of the state say so.

    Args:
        state: A state that waits.
    """
    service = state.integration.partition(":")[0]
    arguments = state.arguments[1]
    if state.is_activity or service in _RUNS_PROGRAMS:
        return "program"
    keys = names_within(arguments)
    if any(key.startswith(_OURS) for key in keys) or any(each.name.startswith(_OURS) for each in state.overrides):
        return "program"
    words = [value for _, value in walk(arguments, "") if isinstance(value, str)]
    spoken = " ".join([state.name, text(state.body.get("Comment")), text(state.body.get("Next")), *keys, *words])
    # Names in camel case are several words.
    asked = _PERSON.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", spoken))
    return "person" if service in _ASKS_PEOPLE or asked else "unknown"


def unsupported(state: State) -> bool:
    """Whether the state's service cannot wait in the way that its Resource says."""
    service = state.integration.partition(":")[0]
    if state.pattern == "waitForTaskToken":
        return service in _NO_TOKEN and not state.is_sdk_call
    return state.pattern == "sync" and (service in _NO_SYNC or state.is_sdk_call)


def pattern_findings(state: State) -> Iterator[Finding]:
    """Find what a service does not support.

    Args:
        state: Any state.
    """
    if unsupported(state):
        call = f"{'aws-sdk:' if state.is_sdk_call else ''}{state.integration}"
        do = "" if state.pattern == "waitForTaskToken" else "Use the optimized integration of a service that has .sync."
        yield find("SO114", at(state.where, "Resource"), f"{call} does not support .{state.pattern}", do=do)
    if state.integration == "eks:runJob" and state.pattern == "waitForTaskToken":
        yield find("SO108", at(state.where, "Resource"), "eks:runJob with .waitForTaskToken")


def unwaited_token_findings(state: State) -> Iterator[Finding]:
    """Find a task token that is passed on where Step Functions makes none.

    Args:
        state: Any state.
    """
    if state.pattern == "waitForTaskToken":
        return
    places = [place for place, found in state.looked_up if found.names_token]
    if not places or not _is_known(state):
        return
    do = ""
    severity: Severity | None = None
    if state.is_activity:
        how, do = "an activity's worker gets the token from GetActivityTask", "Leave it out."
    elif state.pattern == "sync" and state.integration.partition(":")[0] in _RUNS_PROGRAMS:
        how = "a .sync state ends with its job, whatever is reported"
    elif state.pattern == "sync":
        how, severity = "whether a .sync state has one, AWS's pages contradict each other", "note"
    else:
        how = "nothing here waits for it"
        do = "Add .waitForTaskToken to the Resource, or leave the token out." if state.integration else "Leave it out."
    yield find("SO112", places[0], f"the task token is passed on, and {how}", do=do, severity=severity)


def _is_known(state: State) -> bool:
    """Whether it is seen what a state does: a placeholder in the place of a Resource may become anything."""
    resource = text(state.body.get("Resource"))
    function = ":lambda:" in resource and "${" not in resource
    return state.body.get("Type") != "Task" or bool(state.integration) or state.is_activity or function
