"""Readiness, liveness, refusal while not serving, client retries, reflection."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.client import TranslationError
from service.rpc.interceptor import SERVICE
from tests.doubles.edge_server import EdgeServer, edge_server, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(server: EdgeServer, name: str) -> int:
    """What a probe for `name` is told."""
    async with aio.insecure_channel(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    return int(answer.status)


async def test_draining_never_looks_like_death() -> None:
    """Readiness goes, under all its names; liveness stays."""
    async with edge_server() as server:
        await server.health.set_alive(alive=True)
        assert [await health_of(server, name) for name in ("", SERVICE, "readiness", "liveness")] == [SERVING] * 4
        await server.health.set_ready(ready=False)
        assert [await health_of(server, name) for name in ("", SERVICE, "readiness")] == [NOT_SERVING] * 3
        assert await health_of(server, "liveness") == SERVING


async def test_a_client_waits_out_the_loading_of_a_server() -> None:
    """UNAVAILABLE while loading is retried by the client's service config, and the call succeeds."""
    async with edge_server(opened=False) as server, server.client() as client:
        call = asyncio.create_task(client.translate(["I love you."], source="en", target="de"))
        await until(lambda: refusals(server) >= 1)
        server.servicer.open(server.translator)
        assert (await call).translations[0].text == "I love you."
        assert refusals(server) >= 1


def refusals(server: EdgeServer) -> float:
    """Calls answered UNAVAILABLE."""
    return server.metric("dragoman_requests_total", method="Translate", model="", code="UNAVAILABLE")


async def test_retries_end() -> None:
    """A server that never serves is given up after a few attempts, with its own reason."""
    async with edge_server(opened=False) as server, server.client() as client:
        with pytest.raises(TranslationError) as caught:
            await client.translate(["I love you."], source="en", target="de")
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
        assert caught.value.retry_after_seconds is not None
        await server.until_idle()
        assert refusals(server) == 5


async def test_accepted_calls_finish_after_closing() -> None:
    """New calls are refused; one that runs is answered."""
    async with edge_server() as server, server.client() as client:
        server.runner.gate.clear()
        running = asyncio.create_task(client.translate(["I love you."], source="en", target="de"))
        await until(lambda: server.engine.running == 1)
        server.servicer.close()
        with pytest.raises(TranslationError) as caught:
            await client.translate(["How are you?"], source="en", target="de", timeout_seconds=10)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        server.runner.gate.set()
        assert (await running).translations[0].text == "I love you."


async def test_reflection_names_the_services() -> None:
    """So that grpcurl and buf curl work without our proto."""
    async with edge_server() as server, aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_health_watchers_do_not_count_as_calls() -> None:
    """A load balancer that watches health must not hold up draining."""
    async with edge_server() as server, aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        await asyncio.wait_for(server.interceptor.wait_idle(), 5)
        watch.cancel()
