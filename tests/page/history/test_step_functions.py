"""Asking for an execution: paged, counted, bounded; what is not permitted, not there or Express says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.config import Config
from support.histories import ARN, RecordedHistory, RecordedStepFunctions, described

from stepout.cli import main
from stepout.page.budget import PageBudget
from stepout.page.history.step_functions import ask_children, ask_execution, execution_arn
from stepout.schemas.errors import AccessDeniedError, ConfigurationError, StepoutError, StoreUnavailableError

if TYPE_CHECKING:
    from stepout.page.history.step_functions import AskedExecution


def ask(client: Any, **budget: Any) -> AskedExecution:
    """Ask a client for the execution."""
    return ask_execution(execution_arn(ARN), PageBudget(**budget), client)


def long_history(visits: int) -> list[dict[str, Any]]:
    """Return a history with so many visits, eight events each."""
    history = RecordedHistory()
    for number in range(visits):
        history.enter("Mask", given={"n": number})
        history.run()
        history.fail("Demo.TooDark", "")
        history.leave("Mask")
        history.enter("Wait", "Wait")
        history.leave("Wait", "Wait")
    return history.events


def test_a_long_history_is_read_in_pages_of_a_thousand() -> None:
    """Every event is read once; a request for each thousand, and one that asks how the execution stands."""
    events = long_history(500)
    client = RecordedStepFunctions(events)
    asked = ask(client)
    assert [event.event_id for event in asked.events] == list(range(1, len(events) + 1))
    assert not asked.more_events
    assert [name for name, _ in client.asked] == ["describe_execution"] + 4 * ["get_execution_history"]
    assert all(arguments["maxResults"] == 1_000 for name, arguments in client.asked[1:])


def test_a_history_of_large_inputs_is_read_on_without_them() -> None:
    """Inputs may take half of the bytes; the events behind that are read without, all of them, and a note says so."""
    client = RecordedStepFunctions(long_history(500), bytes_per_page=400_000)
    asked = ask(client, bytes=1_000_000)
    assert len(asked.events) == len(client.events)
    assert not asked.more_events
    assert [arguments.get("includeExecutionData") for _, arguments in client.asked[1:]] == [True, True] + 4 * [False]
    assert "the first 2,000 events" in asked.notes[0]


@pytest.mark.parametrize("budget", [{"requests": 3}, {"seconds": 0}])
def test_a_history_that_costs_too_much_is_cut_off(budget: dict[str, Any]) -> None:
    """What was read until then is kept, and a note says that there is more."""
    asked = ask(RecordedStepFunctions(long_history(500)), **budget)
    assert len(asked.events) == 1_000 * max(budget.get("requests", 0) - 1, 0)
    assert asked.more_events
    assert "the history was not read to its end" in asked.notes[-1]


def test_without_the_right_to_the_history_the_rest_is_known() -> None:
    """The note names the right that is missing, and what grants it."""
    asked = ask(RecordedStepFunctions(refuses={"get_execution_history": "AccessDeniedException"}))
    assert asked.described["status"] == "SUCCEEDED"
    assert "states:GetExecutionHistory" in asked.notes[0]
    assert "stepout iam viewer" in asked.notes[0]


def test_without_the_right_to_describe_it_the_history_is_known() -> None:
    """The note names the right that is missing; the events are there."""
    client = RecordedStepFunctions(long_history(1), refuses={"describe_execution": "AccessDeniedException"})
    asked = ask(client)
    assert len(asked.events) == len(client.events)
    assert asked.described == {"executionArn": ARN}
    assert "states:DescribeExecution" in asked.notes[0]


def test_without_both_rights_there_is_no_page() -> None:
    """The error names a right, and where its policy comes from."""
    denied = dict.fromkeys(("describe_execution", "get_execution_history"), "AccessDeniedException")
    with pytest.raises(
        AccessDeniedError, match=r"states:DescribeExecution on .* was denied: grant it .'stepout iam view"
    ):
        ask(RecordedStepFunctions(refuses=denied))


def test_without_the_key_there_are_events_without_data() -> None:
    """Inputs and outputs are encrypted: everything else is read, and the note names the right to the key."""
    denied = dict.fromkeys(("describe_execution", "get_execution_history"), "KmsAccessDeniedException")
    client = RecordedStepFunctions(long_history(1), refuses=denied)
    asked = ask(client)
    assert len(asked.events) == len(client.events)
    assert asked.described["status"] == "SUCCEEDED"
    assert any("grant kms:Decrypt" in note for note in asked.notes)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("ExecutionDoesNotExist", ConfigurationError, "its state machine was deleted"),
        ("StateMachineTypeNotSupported", ConfigurationError, "CloudWatch Logs"),
        ("InvalidArn", ConfigurationError, "InvalidArn, it said"),
        ("ExpiredTokenException", AccessDeniedError, "log in anew"),
        ("ThrottlingException", StoreUnavailableError, "Try again later"),
    ],
)
def test_other_refusals_say_what_to_do(code: str, kind: type[StepoutError], said: str) -> None:
    """Gone, Express, wrong, expired, busy: each error says which."""
    refuses = dict.fromkeys(("describe_execution", "get_execution_history"), code)
    with pytest.raises(kind, match=said):
        ask(RecordedStepFunctions(refuses=refuses))


def test_an_execution_of_another_region_says_so() -> None:
    """The client asks in its own region, and knows nothing of the execution."""
    client: Any = botocore.session.get_session().create_client("stepfunctions", region_name="us-west-2")
    recorded = RecordedStepFunctions(refuses={"describe_execution": "ExecutionDoesNotExist"})
    client.describe_execution = recorded.describe_execution
    with pytest.raises(ConfigurationError, match="it is in eu-west-1, the client asks in us-west-2"):
        ask(client)


def test_a_service_that_cannot_be_reached_says_so() -> None:
    """Nothing listens at the endpoint."""
    client = botocore.session.get_session().create_client(
        "stepfunctions",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(StoreUnavailableError, match="Step Functions cannot be reached"):
        ask(client)


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        (ARN.replace(":execution:", ":express:") + ":1", "an Express execution has no history"),
        ("arn:aws:states:eu-west-1:123456789012:stateMachine:Segment", "list-executions"),
        ("arn:aws:states:eu-west-1:123456789012:mapRun:Segment/Map:1", "the manifest of its ResultWriter"),
        ("arn:aws:s3:::bucket", "is not the ARN of an execution"),
        ("arn:aws:states:eu-west-1:123456789012:execution:Segment", "is not the ARN of an execution"),
    ],
)
def test_the_arn_of_something_else_is_refused(arn: str, said: str) -> None:
    """Nothing is asked; the message says what to pass instead."""
    with pytest.raises(ConfigurationError, match=said):
        execution_arn(arn)


def test_the_child_of_a_distributed_map_is_an_execution() -> None:
    """Its ARN has the Map's label behind the state machine's name."""
    assert execution_arn("arn:aws:states:eu-west-1:123456789012:execution:Segment/Map:1").machine == "Segment/Map"


def test_children_of_a_map_run_are_listed_in_pages() -> None:
    """All of them, up to ten thousand."""
    children = [{"executionArn": f"{ARN}{n}", "name": str(n), "status": "SUCCEEDED"} for n in range(2_500)]
    client = RecordedStepFunctions(children=children)
    found = ask_children("arn:aws:states:eu-west-1:123456789012:mapRun:Segment/Map:1", PageBudget(), client)
    assert found == children
    assert len(client.asked) == 3


def test_the_viewer_of_one_state_machine_may_look_at_its_executions_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Its executions, the children of its Maps, and what lies in the bucket."""
    where = ("--region", "eu-west-1", "--account", "123456789012")
    assert main(["iam", "viewer", "--bucket", "results", "--state-machine", "Segment", *where]) == 0
    printed = capsys.readouterr().out
    for needed in ("states:GetExecutionHistory", "states:DescribeExecution", "states:ListExecutions", "s3:GetObject"):
        assert needed in printed
    assert "arn:aws:states:eu-west-1:123456789012:execution:Segment:*" in printed
    assert described()["executionArn"].startswith("arn:aws:states:eu-west-1:123456789012:execution:Segment:")
