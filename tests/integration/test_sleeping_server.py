"""The real edge, translator, engine and scheduler around a runner that sleeps."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from dragoman.v1 import translation_pb2 as pb
from service.client import AsyncTranslationClient, TranslationClient
from tests.doubles.sleeping_server import sleeping_server

FAST = 0.01
TEXT = "The children read a book in the garden. Nobody came to see them.\n\nIt was late."


async def test_unary_stream_and_beams_are_answered_and_agree() -> None:
    """Texts come back whole, sentence by sentence, and a stream's deltas joined are the unary answer."""
    async with sleeping_server(time_scale=FAST) as server, AsyncTranslationClient(server.address) as client:
        unary = (await client.translate([TEXT], source="en", target="de")).translations[0]
        assert [len(sentence.source_span.SerializeToString()) > 0 for sentence in unary.sentences] == [True] * 3
        assert unary.text.count("\n\n") == 1
        assert not unary.truncated
        assert unary.fallback_count == 0
        deltas = [item.text_delta async for item in client.stream(TEXT, source="en", target="de")]
        assert "".join(deltas) == unary.text
        assert len(deltas) > 1
        options = pb.TranslationOptions(beam_size=4)
        beam = await client.translate([TEXT] * 8, source="en", target="de", options=options)
        assert {translation.text for translation in beam.translations} == {beam.translations[0].text}
        assert beam.timings.step_count > 0
        assert server.metric("dragoman_requests_total", method="Translate", model="sleeping", code="OK") == 2


def test_the_command_serves_with_the_services_settings_and_stops_cleanly(repository: Path) -> None:
    """It prints where it serves as the service does, takes the service's options, and drains on SIGTERM."""
    command = [sys.executable, "-m", "loadtests.sleeping_server", "--time-scale", "0.01", "--workers", "3"]
    command += ["--row-slots", "8", "--port", "0", "--metrics-port", "0", "--health-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repository)
    assert process.stdout is not None
    try:
        _, _, address, *_ = process.stdout.readline().split()
        assert address.startswith("127.0.0.1:")
        with TranslationClient(address) as client:
            (model,) = client.list_models()
            assert model.id == "sleeping"
            assert client.translate(["Good morning."], source="en", target="fr").translations[0].text
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "drained" in [json.loads(line)["event"] for line in log.splitlines()]


def test_a_wrong_setting_is_one_line_and_exit_code_2(repository: Path) -> None:
    """The service's own message, and no traceback."""
    command = [sys.executable, "-m", "loadtests.sleeping_server", "--row-slots", "0"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("sleeping_server: --row-slots")
    assert len(result.stderr.splitlines()) == 1
