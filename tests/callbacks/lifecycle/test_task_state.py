"""The rules of ``stepout.callbacks.lifecycle.task_state``, as properties of any sequence of events."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.lifecycle.task_state import Stop, TaskState, TaskStateCell, TerminalReport

EVENTS = st.lists(st.sampled_from(["interrupt", "cancel", "success", "failure", "refuse"]), max_size=12)


def after(events: list[str]) -> tuple[TaskState, list[str]]:
    """Play the events; return the last state and the reports that were allowed to begin."""
    state, begun = TaskState(), []
    for event in events:
        before = state
        if event == "interrupt":
            state = state.interrupt(15)
        elif event == "cancel":
            state = state.cancel()
        elif event == "refuse":
            state = state.refuse()
        else:
            state = state.begin(TerminalReport(event))
        if state.report is not before.report:
            begun.append(event)
    return state, begun


@given(EVENTS)
def test_at_most_one_report_begins_and_only_a_refused_success_changes(events: list[str]) -> None:
    """Whatever happens, one report begins; a refusal may turn a success into a failure, once."""
    _, begun = after(events)
    assert begun in ([], ["success"], ["failure"], ["success", "refuse"])


@given(EVENTS)
def test_success_never_follows_a_request_to_stop(events: list[str]) -> None:
    """After an interruption or a cancellation success is never reported."""
    stops = [index for index, event in enumerate(events) if event in ("interrupt", "cancel")]
    reports = [index for index, event in enumerate(events) if event in ("success", "failure")]
    state, begun = after(events)
    if stops and (not reports or stops[0] < reports[0]):
        assert "success" not in begun
        assert state.stop is not None


@given(EVENTS)
def test_a_cancelled_task_reports_nothing(events: list[str]) -> None:
    """Cancelled first means silent for ever."""
    state, begun = after(["cancel", *events])
    assert (state.stop, begun) == (Stop.CANCELLED, [])


@given(EVENTS)
def test_nothing_stops_a_task_once_its_report_has_begun(events: list[str]) -> None:
    """From then on a signal is only remembered."""
    state, _ = after(["failure", *events])
    assert state.stop is None
    assert state.signum == (15 if "interrupt" in events else None)


def test_the_first_signal_is_the_one_remembered() -> None:
    """A SIGINT after a SIGTERM does not change the exit code."""
    assert TaskState().interrupt(15).interrupt(2).signum == 15


def test_one_of_many_threads_wins_the_report() -> None:
    """The cell lets exactly one of 32 racing threads report."""
    cell, start, won = TaskStateCell(), threading.Barrier(32), []

    def race(report: TerminalReport) -> None:
        start.wait()
        if cell.begin(report):
            won.append(report)

    threads = [
        threading.Thread(target=race, args=(report,))
        for report in (TerminalReport.SUCCESS, TerminalReport.FAILURE) * 16
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert cell.now.report is won[0]
    assert cell.refuse() is (won[0] is TerminalReport.SUCCESS)
    assert not cell.refuse()
    assert not cell.cancel()
    assert not cell.interrupt(15)
