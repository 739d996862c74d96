"""The whole bench on a tiny bundle, and the processes it starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.protocol import Answer, Job
from loadtests.bench.settings import SEARCHES, Settings
from loadtests.bench.system_process import SystemProcess
from loadtests.bench.text import read_parallel
from service.errors import DataError, UnavailableError


def test_a_quick_run_on_a_bundle_alone_writes_table_json_and_picture(
    tiny_int8_bundle: Path, repository: Path, tmp_path: Path
) -> None:
    """Without a checkpoint no peer runs: our own rows are there, with BLEU, and nothing is called counted."""
    (tmp_path / "text").write_text("I see the book.\nyou love it all\n" * 12, encoding="utf-8")
    (tmp_path / "references").write_text("one\ntwo\n" * 12, encoding="utf-8")
    command = [sys.executable, "-m", "loadtests.bench", "--quick", "--bundle", tiny_int8_bundle]
    files = ["--text", tmp_path / "text", "--references", tmp_path / "references", "--output", tmp_path / "out"]
    words = [str(word) for word in (*command, *files)]
    result = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    assert "no BLEU to meet" in result.stdout
    (path,) = (tmp_path / "out").glob("*-bench.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert {(row["search"]["name"], row["in_flight"]) for row in rows} == {
        (search, in_flight) for search in SEARCHES for in_flight in (1, 8, 20)
    }
    assert not any(row["counted"] for row in rows)
    assert path.with_suffix(".png").exists()


def test_a_missing_bundle_is_one_line(repository: Path, tmp_path: Path) -> None:
    """A person's mistake ends with exit code 2 and a sentence."""
    missing = str(tmp_path / "none")
    command = [sys.executable, "-m", "loadtests.bench", "--bundle", missing, "--text", missing, "--references", missing]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_what_a_library_prints_does_not_get_between_the_lines(tmp_path: Path) -> None:
    """A system that prints to standard output still answers, and one that dies is reported with its last words."""
    program = (
        "import os\n"
        "from concurrent.futures import Future\n"
        "from loadtests.bench.child import serve\n"
        "class Run:\n"
        "    def start(self, call):\n"
        "        os.system('echo loud')\n"
        "        future = Future()\n"
        "        future.set_result(list(call))\n"
        "        return future\n"
        "    def ids(self, raw):\n"
        "        return [[index] for index in raw]\n"
        "class System:\n"
        "    def versions(self):\n"
        "        return {'fake': '1'}\n"
        "    def prepare(self, job):\n"
        "        print('louder')\n"
        "        if job.in_flight > 8:\n"
        "            raise SystemExit('too much for me')\n"
        "        return Run()\n"
        "serve(System())\n"
    )
    settings = Settings(workers=1, threads=1, call_size=2)
    job = Job(sources=[[5, 0], [6, 0], [7, 0]], search=SEARCHES["greedy"], settings=settings, in_flight=8)
    with SystemProcess("fake", [sys.executable, "-c", program], log=tmp_path / "log") as process:
        assert process.versions == {"fake": "1"}
        answer = process.run(job)
        assert answer.outputs == [[0], [1], [2]]
        assert answer.seconds > 0
        assert answer.tokens == 6
        more = Job(sources=job.sources, search=job.search, settings=settings, in_flight=9)
        with pytest.raises(UnavailableError, match="too much for me"):
            process.run(more)


def test_jobs_and_answers_survive_the_pipe() -> None:
    """What one side writes the other reads."""
    job = Job(sources=[[1, 2]], search=SEARCHES["beam4"], settings=Settings(workers=2, threads=1), in_flight=3)
    assert Job.from_line(job.to_line()) == job
    answer = Answer(outputs=[[1], []], seconds=0.5, cpu_seconds=1.0, others_cpu_seconds=None)
    assert Answer.from_line(answer.to_line()) == answer


def test_files_that_do_not_match_are_refused(tmp_path: Path) -> None:
    """A reference for each sentence, or a clear line."""
    (tmp_path / "a").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "b").write_text("one\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 lines"):
        read_parallel(tmp_path / "a", tmp_path / "b", limit=10)
    assert read_parallel(tmp_path / "a", tmp_path / "a", limit=1) == (["one"], ["one"])
