"""Real processes that handle signals themselves: what the state hears all the same."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

LOOP = """
import asyncio, signal
async def main(task, handle):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set if handle == "set" else task().cancel)
    if handle == "set":
        while not globals()["task"]._guard._wake_up._copies:  # before that the task hears nothing of the loop's signals
            await asyncio.sleep(0.01)
    ready()
    await stop.wait()
"""

HANDLED = {
    "sys.exit(0)": """
        import signal
        with stepout.open_task() as task:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            ready()
            time.sleep(60)
    """,
    "a flag": """
        import signal
        stop = []
        with stepout.open_task() as task:
            signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
            ready()
            while not stop:
                time.sleep(0.01)
    """,
    "a loop that cancels": LOOP
    + """
with stepout.open_task() as task:
    asyncio.run(main(asyncio.current_task, "cancel"))
""",
    "a loop that ends well": LOOP
    + """
with stepout.open_task() as task:
    asyncio.run(main(asyncio.current_task, "set"))
""",
    "a loop around the block": LOOP
    + """
async def job():
    with stepout.open_task() as task:
        await main(asyncio.current_task, "cancel")
asyncio.run(job())
""",
    "a loop that has closed": """
        import asyncio, signal
        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        with stepout.open_task() as task:
            asyncio.run(main())
            def armed():
                while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                    time.sleep(0.01)
                ready()
            threading.Thread(target=armed).start()
            time.sleep(60)
    """,
}


@pytest.mark.parametrize("how", HANDLED)
def test_a_stop_that_the_job_handles_itself_is_told(sfn_strict: StrictStepFunctions, jobs: Any, how: str) -> None:
    """Whatever it makes of it, and however it leaves the block."""
    job = jobs(HANDLED[how]).ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


def test_a_handler_that_raises_does_not_spoil_a_report(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """Every few milliseconds an alarm, from the end of the block on: no try is lost, none is taken for refused."""
    sfn_strict.fault("SendTaskSuccess", "throttle", "lost", "throttle")
    job = jobs("""
        import signal
        def late(*_):
            raise TimeoutError("late")
        signal.signal(signal.SIGALRM, late)
        try:
            with stepout.open_task() as task:
                task.result["rows"] = 3
                def alarms():
                    while not task._heartbeat._stopped.is_set():
                        if leaving():
                            os.kill(os.getpid(), signal.SIGALRM)
                        time.sleep(0.003)
                def leaving():
                    frame = sys._current_frames()[threading.main_thread().ident]
                    while frame is not None:
                        if frame.f_code.co_name == "conclude":
                            return True
                        frame = frame.f_back
                threading.Thread(target=alarms, daemon=True).start()
        except TimeoutError:
            print("RAISED AFTERWARDS")
    """)
    ended, printed = job.finish()
    assert ended == 0, printed
    assert "RAISED AFTERWARDS" in printed
    assert sfn_strict.success(job.token)["result"] == {"rows": 3}
