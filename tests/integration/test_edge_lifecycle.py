"""Readiness, liveness, refusal while not serving, client retries, reflection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.client import AsyncTranslationClient, TranslationError
from service.rpc.health import HealthStates, build_health_server
from service.rpc.interceptor import SERVICE
from service.rpc.server import bind
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


async def test_the_health_port_tells_the_same_and_nothing_else() -> None:
    """A server of its own for probes that speak no TLS: every name's state as it changes, and no other service."""
    states = HealthStates()
    probed = build_health_server(states)
    port = bind(probed, "127.0.0.1", 0, setting="--health-port")
    await probed.start()
    await states.set_alive(alive=True)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for ready, status in ((True, SERVING), (False, NOT_SERVING)):
            await states.set_ready(ready=ready)
            for name in ("", SERVICE, "readiness"):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == status
            assert (await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))).status == SERVING
        path = f"/{SERVICE}/ListModels"
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, bytes, bytes)
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="x" * 2000))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await probed.stop(None)


async def test_a_client_waits_out_the_loading_of_a_server() -> None:
    """UNAVAILABLE is retried by the client's service config, and the call succeeds."""
    async with edge_server(opened=False) as server, server.client() as client:
        await server.health.set_ready(ready=True)  # as a client sees it whose view of health is behind
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
        await server.health.set_ready(ready=True)
        with pytest.raises(TranslationError) as caught:
            await client.translate(["I love you."], source="en", target="de")
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
        assert caught.value.retry_after_seconds is not None
        await server.until_idle()
        assert refusals(server) == 5


async def test_a_server_that_is_not_ready_gets_no_calls() -> None:
    """Clients watch health, so that a server which loads or drains is not even asked."""
    async with edge_server(opened=False) as server, server.client() as client:
        with pytest.raises(TranslationError) as caught:
            await client.translate(["I love you."], source="en", target="de")
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert refusals(server) == 0


async def test_no_call_fails_through_a_rolling_restart() -> None:
    """Two replicas behind a round_robin client are restarted one after the other, while calls go on."""
    async with AsyncExitStack() as stack:
        replicas = [edge_server(max_waiting=500), edge_server(max_waiting=500)]
        servers = [await replica.__aenter__() for replica in replicas]
        addresses = ",".join(server.address for server in servers)
        client = await stack.enter_async_context(AsyncTranslationClient(f"ipv4:{addresses}"))
        done = [0]
        callers = [asyncio.create_task(call_for_ever(client, done)) for _ in range(8)]
        for number in (0, 1):
            await until_more(done, 200)
            await servers[number].health.set_ready(ready=False)
            await until_left_alone(servers[number], done)
            servers[number].servicer.close()
            await replicas[number].__aexit__(None, None, None)
            await until_more(done, 200)
            port = int(servers[number].address.rpartition(":")[2])
            replicas[number] = edge_server(max_waiting=500, port=port)
            servers[number] = await replicas[number].__aenter__()
            await until(lambda: calls_of(servers[number]) > 50)  # noqa: B023 - awaited in the same turn
        for caller in callers:
            caller.cancel()
        ended = await asyncio.gather(*callers, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
        for replica in replicas:
            await replica.__aexit__(None, None, None)


async def call_for_ever(client: AsyncTranslationClient, done: list[int]) -> None:
    """One call after the other; ends with the first error."""
    while True:
        await client.translate(["I love you."], source="en", target="de")
        done[0] += 1


def calls_of(server: EdgeServer) -> float:
    """Calls that a server has answered."""
    return server.metric("dragoman_requests_total", method="Translate", model="echo", code="OK")


async def until_more(done: list[int], count: int) -> None:
    """Returns after `count` more calls."""
    goal = done[0] + count
    await until(lambda: done[0] >= goal)


async def until_left_alone(server: EdgeServer, done: list[int]) -> None:
    """Returns when a hundred calls have gone by without one for `server`."""
    while True:
        before = calls_of(server)
        await until_more(done, 100)
        if calls_of(server) == before:
            return


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
        await asyncio.wait_for(server.interceptor.accounting.wait_idle(), 5)
        watch.cancel()
