"""`python -m loadtests` against a real gRPC server that answers with nothing, refuses, or is not there."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2, translation_pb2_grpc
from loadtests.__main__ import build_parser, run


class EmptyService(translation_pb2_grpc.TranslationServiceServicer):
    """Answers at once with nothing; refuses the text "refuse me"."""

    async def Translate(  # noqa: N802
        self,
        request: translation_pb2.TranslateRequest,
        context: grpc.aio.ServicerContext[translation_pb2.TranslateRequest, translation_pb2.TranslateResponse],
    ) -> translation_pb2.TranslateResponse:
        """One empty answer."""
        if request.contents[0] == "refuse me":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return translation_pb2.TranslateResponse()

    async def TranslateStream(self, *arguments: object) -> None:  # type: ignore[override]  # noqa: N802
        """Not part of this server."""

    TranslateBulk = ListModels = TranslateStream  # type: ignore[assignment]


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A server on a free port."""
    server = grpc.aio.server()
    translation_pb2_grpc.add_TranslationServiceServicer_to_server(EmptyService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(grace=None)


async def test_every_arrival_becomes_a_call_with_its_status(address: str, tmp_path: Path) -> None:
    """Answered and refused calls add up to the schedule; each has the status the server gave."""
    texts = tmp_path / "texts.txt"
    texts.write_text("hello\nrefuse me\n", encoding="utf-8")
    command = ["--address", address, "--rate", "200", "--duration", "1", "--warmup", "0.2", "--text", str(texts)]
    results = await run(build_parser().parse_args(command))
    statuses = results["statuses"]
    assert isinstance(statuses, dict)
    assert set(statuses) == {"OK", "RESOURCE_EXHAUSTED"}
    assert abs(statuses["OK"] - statuses["RESOURCE_EXHAUSTED"]) <= 2
    assert sum(statuses.values()) == results["calls"]
    assert results["latency_milliseconds"] is not None
    json.dumps(results)


def test_nobody_there_is_one_line_and_exit_code_2(tmp_path: Path, repository: Path) -> None:
    """A wrong address ends the run before it begins."""
    texts = tmp_path / "texts.txt"
    texts.write_text("hello\n", encoding="utf-8")
    command = [sys.executable, "-m", "loadtests", "--address", "127.0.0.1:1", "--text", str(texts)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == "error: nobody answers at 127.0.0.1:1"
