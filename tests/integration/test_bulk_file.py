"""A file translated as bulk work: every line once and in order, shard by shard, and again after a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.client import TranslationClient, TranslationError
from service.client.__main__ import main
from service.client.bulk_file import BulkFile, translate_file
from tests.doubles.edge_server import edge_server

REQUEST = pb.TranslateRequest(source_language_code="en", target_language_code="de")
LINES = ["I love you.", "", "How are you?", "We are fine.", "   ", *(f"We are {number}." for number in range(30))]


def job(folder: Path, lines: list[str], *, shard: int = 0, shards: int = 1) -> BulkFile:
    """A file of `lines`; an echo server gives each back."""
    source = folder / "source.txt"
    source.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return BulkFile(source=source, output=folder / "out", request=REQUEST, shard=shard, shards=shards)


def expected(lines: list[str]) -> list[str]:
    """What the echo server makes of them: blank lines stay blank."""
    return [line if line.strip() else "" for line in lines]


@pytest.mark.parametrize("shards", [1, 3])
async def test_each_line_is_translated_once_and_in_order(tmp_path: Path, shards: int) -> None:
    """The shards together are the file."""
    async with edge_server() as server:
        for shard in range(shards):
            piece = job(tmp_path, LINES, shard=shard, shards=shards)
            with TranslationClient(server.address) as client:
                assert await asyncio.to_thread(translate_file, client, piece) == 0
            assert piece.translations.read_text().splitlines() == expected(LINES[shard::shards])
            assert not piece.errors.exists()


async def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """Whole lines that are there are kept, half a line is done again, a finished file stays as it is."""
    piece = job(tmp_path, LINES)
    piece.translations.write_text("kept\n\nkept too\nhalf a li")
    async with edge_server() as server:
        with TranslationClient(server.address) as client:
            for _ in range(2):
                assert await asyncio.to_thread(translate_file, client, piece) == 0
                found = piece.translations.read_text().splitlines()
                assert found == ["kept", "", "kept too", *expected(LINES)[3:]]


async def test_a_line_that_cannot_be_translated_is_named(tmp_path: Path) -> None:
    """It is empty in the output, so that lines stay side by side, and listed with its number and the reason."""
    piece = job(tmp_path, ["I love you.", "x" * 20_000, "How are you?"])
    async with edge_server() as server:
        with TranslationClient(server.address) as client:
            assert await asyncio.to_thread(translate_file, client, piece) == 1
    assert piece.translations.read_text() == "I love you.\n\nHow are you?\n"
    assert piece.errors.read_text().startswith("2: INVALID_ARGUMENT: ")


async def test_a_server_that_does_not_serve_is_asked_again(tmp_path: Path) -> None:
    """The client waits longer each time, and gives up with the last error when nothing changes."""
    piece, waited, loop = job(tmp_path, LINES), list[float](), asyncio.get_running_loop()
    async with edge_server(opened=False) as server:
        with TranslationClient(server.address) as client:
            with pytest.raises(TranslationError) as caught:
                await asyncio.to_thread(translate_file, client, piece, max_attempts=1)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE

            def wait(seconds: float) -> None:
                waited.append(seconds)
                if len(waited) == 2:
                    server.servicer.open(server.translator)
                    asyncio.run_coroutine_threadsafe(server.health.set_ready(ready=True), loop).result()

            assert await asyncio.to_thread(translate_file, client, piece, wait=wait) == 0
        assert piece.translations.read_text().splitlines() == expected(LINES)
        assert waited[:2] == [2.0, 4.0]


async def test_from_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shard is that of the Indexed Job; failed lines give exit code 3; a shard that there is not is wrong use."""
    piece = job(tmp_path, ["I love you.", "x" * 20_000, "How are you?"])
    arguments = ["--source", "en", "--target", "de", "--bulk", str(piece.source), "--bulk-output", str(piece.output)]
    async with edge_server() as server:
        arguments += ["--address", server.address, "--shards", "2"]
        monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
        assert await asyncio.to_thread(main, arguments) == 0
        assert (tmp_path / "out-00000-of-00002.txt").read_text() == "I love you.\nHow are you?\n"
        monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
        assert await asyncio.to_thread(main, arguments) == 3
        assert "1 lines failed" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            await asyncio.to_thread(main, [*arguments, "--shard", "2"])
