"""The container's health probe tells a serving server from one that is not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from service import health_probe

Health = tuple[health.HealthServicer, str]


@pytest.fixture
def served() -> Iterator[Health]:
    """A health service on a free port, and its address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


def test_a_serving_server_is_healthy(served: Health) -> None:
    """SERVING is exit code 0."""
    servicer, address = served
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert health_probe.main([address]) == 0


def test_a_draining_server_is_not(served: Health) -> None:
    """NOT_SERVING is exit code 1."""
    servicer, address = served
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert health_probe.main([address]) == 1


def test_a_name_may_be_asked_for(served: Health) -> None:
    """Readiness and liveness are different names of one server."""
    servicer, address = served
    servicer.set("liveness", health_pb2.HealthCheckResponse.SERVING)
    servicer.set("readiness", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert health_probe.main([address, "liveness"]) == 0
    assert health_probe.main([address, "readiness"]) == 1


def test_nobody_there_is_not_healthy(served: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer in time is exit code 1, without a traceback."""
    monkeypatch.setattr(health_probe, "TIMEOUT_SECONDS", 0.2)
    assert health_probe.main(["127.0.0.1:1"]) == 1


def test_wrong_use_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an address: one line of usage and exit code 2."""
    assert health_probe.main([]) == 2
    assert capsys.readouterr().err.startswith("usage:")
