"""`python -m service` as a process: it serves, drains on SIGTERM, and refuses to start with one clear line."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dragoman.v1 import translation_pb2 as pb
from service.client import TranslationClient, TranslationError

READY = re.compile(
    r"SERVING grpc 127\.0\.0\.1:(\d+) metrics http://127\.0\.0\.1:(\d+)/metrics health 127\.0\.0\.1:(\d+)\n"
)
LETTER = "I love you. We see the book.\n\n  The child can read it all."


def start(bundle: Path, *options: str) -> subprocess.Popen[str]:
    """The service on free ports, with one worker; without a cache, so that every sentence is decoded."""
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--host", "127.0.0.1", "--workers", "1"]
    command += ["--cache-mib", "0", "--port", "0", "--metrics-port", "0", "--health-port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Service:
    """A running service; its log is read as it comes, so that it never blocks."""

    def __init__(self, bundle: Path, *options: str) -> None:
        self.process = start(bundle, *options)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.log: list[str] = []
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,))
        self._reader.start()
        ready = READY.fullmatch(self.process.stdout.readline())
        if ready is None:
            self.process.kill()
            self._reader.join()
            pytest.fail("".join(self.log))
        self.address = f"127.0.0.1:{ready[1]}"
        self.metrics_url = f"http://127.0.0.1:{ready[2]}/metrics"
        self.health_address = f"127.0.0.1:{ready[3]}"

    def finish(self) -> int:
        """Waits for its end; the exit code."""
        code = self.process.wait(60)
        self._reader.join()
        return code


@pytest.fixture
def service(tiny_bundle: Path) -> Iterator[Service]:
    """A service of the tiny model, killed if the test has not ended it."""
    running = Service(tiny_bundle)
    yield running
    running.process.kill()
    running.finish()


def test_it_serves_every_call_and_stops_cleanly(service: Service) -> None:
    """Unary, stream and bulk agree with each other, metrics show them, SIGTERM ends it with exit code 0."""
    with TranslationClient(service.address) as client:
        (model,) = client.list_models()
        assert [pair.target_language_code for pair in model.language_pairs] == ["de", "fr", "es"]
        unary = client.translate([LETTER, ""], source="en", target="fr").translations
        assert len(unary[0].sentences) == 3
        assert unary[1].text == ""
        streamed = "".join(response.text_delta for response in client.stream(LETTER, source="en", target="fr"))
        assert streamed == unary[0].text
        request = pb.TranslateRequest(contents=[LETTER], source_language_code="en", target_language_code="fr")
        items = [pb.TranslateBulkRequest(id=str(number), request=request) for number in range(20)]
        answers = list(client.translate_bulk(items))
        assert {answer.id for answer in answers} == {str(number) for number in range(20)}
        assert {answer.response.translations[0].text for answer in answers} == {unary[0].text}
    with urllib.request.urlopen(service.metrics_url, timeout=10) as page:
        text = page.read().decode()
    assert 'dragoman_requests_total{code="OK",method="Translate",model="tiny"} 1.0' in text
    assert 'dragoman_bulk_items_total{code="OK",model="tiny"} 20.0' in text
    service.process.send_signal(signal.SIGTERM)
    assert service.finish() == 0
    events = [json.loads(line)["event"] for line in service.log]
    assert events[-2:] == ["draining", "drained"]
    assert "book" not in "".join(service.log)


def test_beams_and_batches_do_not_change_each_other(service: Service) -> None:
    """A sentence is translated to the same text alone and among many, greedy and by beams."""
    with TranslationClient(service.address) as client:
        for beam_size in (1, 4):
            options = pb.TranslationOptions(beam_size=beam_size)
            texts = [f"I see the book {number}." for number in range(24)]
            together = client.translate(texts, source="en", target="de", options=options).translations
            for number in (0, 11, 23):
                alone = client.translate([texts[number]], source="en", target="de", options=options).translations[0]
                assert alone == together[number]


def test_sigterm_drains_what_was_accepted(tiny_bundle: Path) -> None:
    """Calls that run are answered after SIGTERM, readiness fails while liveness holds, and the exit code is 0."""
    service = Service(tiny_bundle, "--readiness-grace-seconds", "1")
    try:
        with TranslationClient(service.address) as client, grpc.insecure_channel(service.health_address) as channel:
            probe = health_pb2_grpc.HealthStub(channel)
            stream = client.stream(LETTER * 40, source="en", target="de")
            first = next(stream)
            service.process.send_signal(signal.SIGTERM)
            statuses = probe.Watch(health_pb2.HealthCheckRequest(service="readiness"))
            while next(statuses).status != health_pb2.HealthCheckResponse.NOT_SERVING:
                pass
            alive = probe.Check(health_pb2.HealthCheckRequest(service="liveness"))
            assert alive.status == health_pb2.HealthCheckResponse.SERVING
            responses = [first, *stream]
        assert responses[-1].WhichOneof("event") == "end"
        assert service.finish() == 0
    finally:
        service.process.kill()
        service.finish()


def test_a_second_sigterm_does_not_wait(tiny_bundle: Path) -> None:
    """It cuts the grace periods short; the exit code is 0 all the same."""
    service = Service(tiny_bundle, "--readiness-grace-seconds", "3600")
    try:
        service.process.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(service.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            while next(watch).status != health_pb2.HealthCheckResponse.NOT_SERVING:
                pass
        service.process.send_signal(signal.SIGTERM)
        assert service.finish() == 0
    finally:
        service.process.kill()
        service.finish()


def test_what_outlasts_the_drain_ends_with_unavailable(tiny_bundle: Path) -> None:
    """A call that takes longer than `--drain-seconds` is told to go elsewhere, and the exit code is 0."""
    service = Service(tiny_bundle, "--drain-seconds", "0.05", "--readiness-grace-seconds", "0")
    try:
        with TranslationClient(service.address) as client:
            stream = client.stream(LETTER * 1000, source="en", target="de")
            next(stream)
            service.process.send_signal(signal.SIGTERM)
            with pytest.raises(TranslationError) as caught:
                list(stream)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert service.finish() == 0
    finally:
        service.process.kill()
        service.finish()


def refused(bundle: Path, *options: str) -> str:
    """The one line with which the service refuses to start; its exit code must be 2."""
    process = start(bundle, *options)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 2, error
    assert output == ""
    lines = [line for line in error.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, error
    return lines[0]


def test_a_port_in_use_is_named(tiny_bundle: Path) -> None:
    """For gRPC, for metrics and for health."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refused(tiny_bundle, "--port", port).startswith(f"service: --port: cannot listen on 127.0.0.1:{port}")
        line = refused(tiny_bundle, "--metrics-port", port)
        assert line.startswith(f"service: --metrics-port: cannot listen on 127.0.0.1:{port}")
        line = refused(tiny_bundle, "--health-port", port)
        assert line.startswith(f"service: --health-port: cannot listen on 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("missing", "bundle"),
        ("empty", "manifest.json"),
        ("truncated", "decoder.onnx"),
        ("tampered", "decoder.onnx"),
        ("no tokenizer", "source.spm"),
    ],
)
def test_a_damaged_bundle_is_refused(tiny_bundle: Path, tmp_path: Path, damage: str, named: str) -> None:
    """One line that names the file at fault, and exit code 2."""
    bundle = tmp_path / "bundle"
    graph = bundle / "decoder.onnx"
    if damage == "empty":
        bundle.mkdir()
    elif damage != "missing":
        shutil.copytree(tiny_bundle, bundle)
    if damage == "truncated":
        graph.write_bytes(graph.read_bytes()[:1000])
    elif damage == "tampered":
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
    elif damage == "no tokenizer":
        (bundle / "source.spm").unlink()
    assert named in refused(bundle)


@pytest.mark.parametrize(
    ("options", "start_of_line"),
    [
        (["--row-slots", "0"], "service: --row-slots: "),
        (["--provider", "tpu"], "service: --provider: "),
        (["--reserved-rows", "32"], "service: settings: --reserved-rows"),
    ],
)
def test_wrong_settings_are_named(tiny_bundle: Path, options: list[str], start_of_line: str) -> None:
    """The option at fault begins the line."""
    assert refused(tiny_bundle, *options).startswith(start_of_line)


def test_the_shell_client_translates_draws_and_fails_in_one_line(service: Service, tmp_path: Path) -> None:
    """`python -m service.client` prints translations; what fails is one line and exit code 1."""

    def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service.client", "--address", service.address, "--source", "en", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = shell("--target", "de", "--timings", "I love you.", "We see the book.")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "decode" in done.stderr
    streamed = shell("--target", "de", "--stream", "I love you.")
    assert streamed.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    failed = shell("--target", "sw", "I love you.")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("client: NOT_FOUND: ")
    assert len(failed.stderr.splitlines()) == 1


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the service's commands, to its end."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_guarded_service_is_used_as_its_page_says(tiny_bundle: Path, tmp_path: Path) -> None:
    """TLS and tokens from the command line; who has both is answered, and probes need neither."""
    files = {name: tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem", "tokens.toml", "token.txt")}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files["ca.pem"])
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(files["key.pem"])
    issued.cert_chain_pems[0].write_to_path(files["cert.pem"])
    made = run("service.tokens", "new", "shell", "--file", str(files["tokens.toml"]))
    files["token.txt"].write_text(made.stdout)
    options = [
        "--tls-certificate",
        files["cert.pem"],
        "--tls-key",
        files["key.pem"],
        "--tokens-file",
        files["tokens.toml"],
    ]
    service = Service(tiny_bundle, *map(str, options))
    try:
        call = ["--address", service.address, "--source", "en", "--target", "de", "--ca", str(files["ca.pem"]), "Yes."]
        done = run("service.client", *call, "--token-file", str(files["token.txt"]))
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        refused = run("service.client", *call)
        assert refused.stderr.startswith("client: UNAUTHENTICATED: ")
        assert run("service.health_probe", service.health_address, "readiness").returncode == 0
        service.process.send_signal(signal.SIGTERM)
        assert service.finish() == 0
        assert made.stdout.strip() not in "".join(service.log)
    finally:
        service.process.kill()
        service.finish()


def test_nobody_there_is_one_line() -> None:
    """A client without a server gives up with UNAVAILABLE."""
    with TranslationClient("127.0.0.1:1") as client, pytest.raises(TranslationError) as caught:
        client.translate(["x"], source="en", target="de", timeout_seconds=20)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
