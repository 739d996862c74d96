"""`python -m loadtests` as a person runs it, much smaller: a sleeping server, an empty one, or none."""

import json
import subprocess
import sys
from itertools import repeat
from pathlib import Path

from loadtests.arrivals import Phase, phased_arrivals
from loadtests.measurement import measure
from loadtests.request import GREEDY, Kind, Request
from loadtests.server_process import EMPTY, SLEEPING, ServerProcess
from loadtests.target import VANISHED, Calls, Target


def run_loadtests(*arguments: str, repository: Path) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    command = [sys.executable, "-m", "loadtests", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=200, check=False)


def test_a_small_load_test_measures_what_it_sent_and_writes_its_report(tmp_path: Path, repository: Path) -> None:
    """A steady load and one with vanishing callers on a sleeping server: nothing is left behind, JSON and a page that
    needs nothing from elsewhere are written, and the exit code says whether all held."""
    arguments = (
        "steady",
        "vanishing",
        "--sleeping",
        "--seconds",
        "1.5",
        "--in-flight",
        "16",
        "--ceiling-seconds",
        "0.1",
    )
    result = run_loadtests(*arguments, "--output", str(tmp_path), repository=repository)
    results = json.loads((tmp_path / "loadtest.json").read_text())
    assert result.returncode == (3 if results["invalid"] else 1 if results["failed"] else 0), result.stderr
    steady, vanishing = results["scenarios"]
    summary = steady["phases"][0]["summary"]
    assert set(summary["statuses"]) <= {"OK", "DEADLINE_EXCEEDED"}
    assert summary["calls"] == sum(summary["statuses"].values()) > 0
    assert vanishing["phases"][0]["summary"]["statuses"][VANISHED] > 0
    (left,) = [each for each in vanishing["thresholds"] if "left behind" in each["name"]]
    assert left["value"] == 0
    page = (tmp_path / "loadtest.html").read_text()
    assert page.count("<svg") == 2
    assert "src=" not in page
    assert "vanishing" in page


async def test_every_arrival_becomes_a_call_with_its_status() -> None:
    """Unary calls, beams, streams and callers who leave: each ends with the status that its caller saw."""
    kinds = {
        "OK": (GREEDY, Kind(name="beam", beam_size=4), Kind(name="stream", streaming=True)),
        VANISHED: (Kind(name="gone", vanishes_after_seconds=0.001),),
    }
    with ServerProcess(SLEEPING) as server:
        async with Target(address=server.address, calls=Calls(source="en", target="de")) as target:
            assert await target.wait_until_connected(timeout_seconds=10)
            for status, expected in kinds.items():
                for kind in expected:
                    outcome = await target.send(Request(kind, "The children read a book."))
                    assert outcome.status == status, kind
                    assert (outcome.first_text_seconds is not None) is kind.streaming
                    assert (outcome.phases is not None) is (status == "OK")
        memory = server.memory_bytes()
        assert memory is None or memory > 10_000_000
        assert server.stop() == 0


async def test_the_generator_is_measured_against_a_server_that_does_nothing() -> None:
    """All calls are sent and answered; refusing to answer is a status, too."""
    phase = Phase(name="empty", rate=200.0, seconds=0.5)
    with ServerProcess(EMPTY) as server:
        async with Target(address=server.address, calls=Calls(source="en", target="de")) as target:
            await target.wait_until_connected(timeout_seconds=10)
            arrivals = phased_arrivals([phase], seed=1)
            requests = repeat(Request(GREEDY, "x"))
            (result,) = await measure(target.send, [phase], arrivals, requests, limit_seconds=5.0)
            assert result.summary.statuses == {"OK": len(arrivals)}
            server.stop()
            assert (await target.send(Request(GREEDY, "x"))).status == "UNAVAILABLE"


def test_nobody_there_is_one_line_and_exit_code_2(repository: Path) -> None:
    """A wrong address ends the run before it begins."""
    result = run_loadtests("--address", "127.0.0.1:1", repository=repository)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: nobody answers at 127.0.0.1:1"


def test_an_unknown_scenario_is_one_line_and_exit_code_2(repository: Path) -> None:
    """The known ones are named."""
    result = run_loadtests("typo", "--sleeping", repository=repository)
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no scenario typo: suite or steady, ")
