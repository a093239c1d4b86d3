"""Asks Step Functions how executions stand, each in its own region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepout.clean_up.decisions import ExecutionStatus, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRIES: Final = 10
"""DescribeExecution holds 15 requests a second and a burst of 300; botocore slows down to what is granted."""

_REGION: Final = 3
_ACCOUNT: Final = 4
_ARN_PARTS: Final = 6


class Executions:
    """Knows how executions stand; asks once for each.

    Args:
        client: A boto3 client for ``stepfunctions``, used for all of them; ``None``: one is built for each region.
        account: The account that the client belongs to; ``None``: STS is asked, once it matters.
    """

    def __init__(self, client: Any = None, *, account: str | None = None) -> None:
        self._client = client
        self._account = account
        self._clients: dict[str, Any] = {}
        self._known: dict[str, ExecutionStatus] = {}

    def status(self, execution: str) -> ExecutionStatus:
        """Return how an execution stands, as it was said first, or since ``forget``.

        Args:
            execution: Its ARN; any other text is one that nobody knows.
        """
        known = self._known.get(execution)
        if known is None:
            known = self._known[execution] = self._ask(execution)
        return known

    def forget(self, executions: Iterable[str]) -> None:
        """Ask anew for these."""
        for execution in executions:
            self._known.pop(execution, None)

    def _ask(self, execution: str) -> ExecutionStatus:
        from botocore.exceptions import BotoCoreError, ClientError

        parts = execution.split(":", _ARN_PARTS)
        if len(parts) <= _ARN_PARTS or parts[2] != "states" or parts[_ARN_PARTS - 1] != "execution":
            return ExecutionStatus("unknown", "not an execution that DescribeExecution knows")
        try:
            # Without input and output, it needs no right to the key that encrypts them.
            asked = {"executionArn": execution, "includedData": "METADATA_ONLY"}
            return status_of(self._of_region(parts[_REGION]).describe_execution(**asked))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
        except BotoCoreError as error:
            code = type(error).__name__
        if code != "ExecutionDoesNotExist":
            return ExecutionStatus("unknown", f"states:DescribeExecution was answered {code}")
        if parts[_ACCOUNT] != self._own_account(parts[_REGION]):
            return ExecutionStatus("unknown", f"Step Functions does not know it, and its account is {parts[_ACCOUNT]}")
        return ExecutionStatus("gone", "Step Functions does not know it any more")

    def _own_account(self, region: str) -> str:
        if self._account is None:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError

            try:
                self._account = str(boto3.client("sts", region_name=region).get_caller_identity()["Account"])
            except (BotoCoreError, ClientError):  # then no account is ours
                self._account = ""
        return self._account

    def _of_region(self, region: str) -> Any:
        if self._client is not None:
            return self._client
        if region not in self._clients:
            import boto3
            from botocore.config import Config

            config = Config(retries={"mode": "adaptive", "total_max_attempts": _TRIES}, user_agent_extra="stepout")
            self._clients[region] = boto3.client("stepfunctions", region_name=region, config=config)
        return self._clients[region]
