"""Asks Step Functions for an execution and its history: paged, within a budget, and clear about missing rights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepout.page.budget import PageBudgetError
from stepout.page.history.event import read_event
from stepout.schemas.errors import AccessDeniedError, ConfigurationError, StepoutError, StoreUnavailableError
from stepout.schemas.runtime.regions import NO_REGION
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.page.budget import PageBudget
    from stepout.page.history.event import PastEvent

MOST_EVENTS: Final = 25_000
"""Step Functions ends an execution that has more."""

_MOST_CHILDREN: Final = 10_000
_PAGE: Final = 1_000
_ARN: Final = re.compile(
    r"arn:[^:]+:states:(?P<region>[^:]*):(?P<account>[^:]*):(?P<kind>[A-Za-z]+):(?P<machine>[^:]+)(?::(?P<name>.+))?",
    re.DOTALL,
)
_DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied", "NotAuthorized", "UnauthorizedOperation"})
_BAD_CREDENTIALS: Final = frozenset(
    {"ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"}
    | {"InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken"}
)
_NO_DATA: Final = frozenset({"KmsAccessDeniedException", "KmsInvalidStateException"})
_VIEWER: Final = "'stepout iam viewer' prints the policy"


class ExecutionArn(NamedTuple):
    """The ARN of an execution, taken apart."""

    text: str
    region: str
    account: str
    machine: str
    name: str


@dataclass(kw_only=True)
class AskedExecution:
    """What Step Functions has told of an execution.

    Attributes:
        described: The answer of DescribeExecution; ``executionArn`` alone, if that may not be asked.
        events: Those of its history.
        more_events: Whether there are more.
        notes: What could not be found out, and what to do about it.
    """

    described: dict[str, Any]
    events: list[PastEvent] = field(default_factory=list)
    more_events: bool = False
    notes: list[str] = field(default_factory=list)


def execution_arn(text: str) -> ExecutionArn:
    """Take the ARN of an execution apart.

    Args:
        text: The ARN.

    Raises:
        ConfigurationError: It is of something else, or of an Express execution, which has no history.
    """
    found = _ARN.fullmatch(text)
    kind = found["kind"] if found else ""
    if found and kind == "execution" and found["name"]:
        return ExecutionArn(text, found["region"], found["account"], found["machine"], found["name"])
    if kind == "express":
        raise ConfigurationError(_express(shown(text)))
    hints = {
        "stateMachine": "is a state machine: pass an execution of it ('aws stepfunctions list-executions "
        "--state-machine-arn ARN' lists them)",
        "mapRun": "is a Map Run: pass the execution that has started it, or the manifest of its ResultWriter",
        "activity": "is an activity: pass the execution whose state it works for",
    }
    hint = hints.get(kind, "is not the ARN of an execution: expected arn:aws:states:REGION:ACCOUNT:execution:NAME:ID")
    raise ConfigurationError(f"{shown(text)} {hint}. Nothing was read")


def _express(arn: str) -> str:
    return (
        f"{arn}: an Express execution has no history that could be asked for. What it logged is in CloudWatch Logs, in "
        "the log group of its state machine's loggingConfiguration (by default /aws/vendedlogs/states/…), if its level "
        "is ALL and includeExecutionData is on. Pass the output documents instead: its tasks' outputs, or the URLs of "
        "their outcomes in pull mode"
    )


def ask_execution(arn: ExecutionArn, budget: PageBudget, client: Any = None) -> AskedExecution:
    """Ask for an execution and its history.

    Args:
        arn: Its ARN.
        budget: Each request counts, and so do the bytes of the history.
        client: A boto3 client for ``stepfunctions``; ``None``: one of our own, in the execution's region.

    Returns:
        What may be known: where only one of both questions may be asked, ``notes`` says which right is missing.

    Raises:
        AccessDeniedError: Neither may be asked, or the credentials are refused.
        ConfigurationError: There is no such execution (any more), or not in this account.
        StoreUnavailableError: Step Functions cannot be reached.
    """
    asking = _Asking(arn, budget, client)
    asked = AskedExecution(described={"executionArn": arn.text})
    refusal = asking.describe(asked)
    if (denied := asking.read_history(asked)) is not None:
        if refusal is not None:
            raise refusal from denied
        asked.notes.append(f"{denied} The page shows no states")
    elif refusal is not None:
        asked.notes.append(f"{refusal} What the page says of the execution stands in its events")
    return asked


def ask_children(map_run: str, budget: PageBudget, client: Any = None) -> list[dict[str, Any]]:
    """Ask for the child executions of a Map Run, 10,000 at most.

    Args:
        map_run: Its ARN.
        budget: Each request counts.
        client: As for ``ask_execution``.

    Raises:
        StepoutError: As for ``ask_execution``; there is a ``PageBudgetError`` among them.
    """
    found = _ARN.fullmatch(map_run)
    arn = ExecutionArn(map_run, found["region"] if found else "", found["account"] if found else "", "", "")
    asking = _Asking(arn, budget, client)
    children: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while len(children) < _MOST_CHILDREN:
        answer = asking.request("list_executions", mapRunArn=map_run, maxResults=_PAGE, **token)
        children += [each for each in answer.get("executions") or () if isinstance(each, dict)]
        if not answer.get("nextToken"):
            break
        token = {"nextToken": answer["nextToken"]}
    return children[:_MOST_CHILDREN]


class _NoDataError(StepoutError):
    """Inputs and outputs are encrypted with a key that the caller may not use."""


class _Asking:
    """Sends requests about one execution, and says in plain words what refuses them."""

    def __init__(self, arn: ExecutionArn, budget: PageBudget, client: Any) -> None:
        self._arn = arn
        self._shown = shown(arn.text)
        self._budget = budget
        self._own = client is None
        self._client = _client(arn.region) if client is None else client
        self._received = 0

    def describe(self, asked: AskedExecution) -> AccessDeniedError | None:
        """Ask how it stands; return what refused that."""
        try:
            try:
                asked.described |= self.request("describe_execution", executionArn=self._arn.text)
            except _NoDataError:
                told = self.request("describe_execution", executionArn=self._arn.text, includedData="METADATA_ONLY")
                asked.described |= told
        except AccessDeniedError as error:
            return error
        except PageBudgetError as error:
            asked.notes.append(f"how the execution stands was not asked: {error}")
        return None

    def read_history(self, asked: AskedExecution) -> AccessDeniedError | None:
        """Read the events; return what refused that."""
        events: dict[int, PastEvent] = {}
        try:
            if why := self._read(events, asked, data=True):
                # What is large in a history are inputs and outputs: the rest of the events is read without.
                asked.notes.append(why)
                self._read(events, asked, data=False)
        except AccessDeniedError as error:
            return error
        except PageBudgetError as error:
            asked.more_events = True
            asked.notes.append(f"the history was not read to its end: {error}")
        asked.events = list(events.values())
        return None

    def _read(self, events: dict[int, PastEvent], asked: AskedExecution, *, data: bool) -> str:
        """Read pages until there are no more; return why it has to be done anew, without data."""
        limit = self._received + self._budget.share
        try:
            for page in self._pages(data=data):
                for event in filter(None, map(read_event, page)):
                    events.setdefault(event.event_id, event)
                if len(events) > MOST_EVENTS:
                    asked.more_events = True
                    return ""
                if data and self._received > limit:
                    return (
                        f"inputs and outputs were looked at for the first {len(events):,} events of the history only: "
                        "they take more bytes than half of the page's budget"
                    )
        except _NoDataError as error:
            if not data:
                raise AccessDeniedError(str(error)) from None
            return f"{error} Without them there is no lineage, and no output of a state"
        return ""

    def _pages(self, *, data: bool) -> Iterator[list[Any]]:
        asked: dict[str, Any] = {"executionArn": self._arn.text, "maxResults": _PAGE, "includeExecutionData": data}
        while True:
            answer = self.request("get_execution_history", **asked)
            yield answer.get("events") or []
            if not answer.get("nextToken"):
                return
            asked["nextToken"] = answer["nextToken"]

    def request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send one request, and count it.

        Raises:
            StepoutError: As for ``ask_execution``.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        self._budget.request(self._arn.text)
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except ClientError as error:
            raise self._refused(operation, error) from error
        except BotoCoreError as error:
            raise _unreachable(operation, self._arn, error) from error
        size = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-length", "")
        if str(size).isdecimal():
            self._received += int(size)
            self._budget.received(self._arn.text, int(size))
        return answer

    def _refused(self, operation: str, error: Any) -> StepoutError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        action = "states:" + "".join(part.capitalize() for part in operation.split("_"))
        if code in _NO_DATA:
            return _NoDataError(
                f"inputs and outputs of {self._shown} are encrypted with a key that may not be used ({code}): grant "
                "kms:Decrypt on the state machine's key."
            )
        if code in _DENIED:
            return AccessDeniedError(f"{action} on {self._shown} was denied: grant it ({_VIEWER}).{self._whose()}")
        if code in _BAD_CREDENTIALS:
            told = f"the credentials were refused ({code}): log in anew, or set AWS_PROFILE"
            return AccessDeniedError(f"{action}: {told}")
        return self._not_there(code) or self._answered(action, code, error.response.get("Error", {}).get("Message", ""))

    def _not_there(self, code: str) -> ConfigurationError | None:
        if code == "StateMachineTypeNotSupported":
            return ConfigurationError(_express(self._shown))
        if code not in {"ExecutionDoesNotExist", "ResourceNotFound"}:
            return None
        return ConfigurationError(
            f"Step Functions does not know {self._shown}: its state machine was deleted, and its executions with it; "
            f"or it ended more than 90 days ago; or it is another account's or region's.{self._whose()} Pass the "
            "output documents instead, if you have them"
        )

    def _answered(self, action: str, code: str, message: object) -> StepoutError:
        told = f"{action} on {self._shown} was answered {shown(code)}: {shown(message)}"
        if code in {"InvalidArn", "ValidationException", "InvalidToken"}:
            return ConfigurationError(told)
        return StoreUnavailableError(f"{told}. Try again later")

    def _whose(self) -> str:
        """Return a sentence if the execution is of another account, or region, than the caller's; else nothing."""
        region = str(getattr(getattr(self._client, "meta", None), "region_name", "") or "")
        told = []
        if region and region != self._arn.region:
            told.append(f"it is in {shown(self._arn.region)}, the client asks in {region}")
        # Whose credentials a client has that was passed in is not known.
        if self._own and (account := _own_account(region)) and account != self._arn.account:
            told.append(f"it is of account {shown(self._arn.account)}, the credentials are of account {account}")
        return f" Note that {' and '.join(told)}." if told else ""


def _client(region: str) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(retries={"mode": "standard", "total_max_attempts": 8}, user_agent_extra="stepout")
    try:
        return boto3.client("stepfunctions", region_name=region or None, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"no client for Step Functions could be made: {error}") from error


def _own_account(region: str) -> str:
    """Return the account of the credentials in use, which anybody may ask; ``""`` if that is not answered."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("sts", region_name=region or None, config=config)
        return str(client.get_caller_identity().get("Account", ""))
    except (BotoCoreError, ClientError, ValueError):
        return ""


def _unreachable(operation: str, arn: ExecutionArn, error: Exception) -> StepoutError:
    from botocore import exceptions

    if isinstance(error, exceptions.NoRegionError):
        return ConfigurationError(f"{operation}: {NO_REGION}")
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError | exceptions.SSOError):
        return AccessDeniedError(f"{operation}: there are no credentials: log in, or set AWS_PROFILE")
    if isinstance(error, exceptions.ParamValidationError):
        return ConfigurationError(f"{shown(arn.text)} is not what Step Functions takes for an execution's ARN")
    return StoreUnavailableError(f"{operation}: Step Functions cannot be reached: {shown(error)}")
