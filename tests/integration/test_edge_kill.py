"""Killing calls at random leaves no slot and no task behind, and no memory."""

from __future__ import annotations

import asyncio
import random
import re
import urllib.request
from pathlib import Path

import pytest

from loadtests.server_process import SERVICE, ServerProcess
from service.client import AsyncTranslationClient
from tests.doubles.edge_server import EdgeServer, edge_server, until
from tests.doubles.killed_calls import call_and_kill


async def nothing_is_left(server: EdgeServer, tasks_before: int) -> None:
    """Fails unless the engine, its slots, the edge's gauges and the event loop all become idle."""
    await server.until_idle()
    for name in ("row_slots_used", "sentence_slots_used"):
        await until(lambda name=name: server.metric(f"dragoman_{name}", model="echo", worker="0") == 0)  # type: ignore[misc]
    for method in ("Translate", "TranslateStream", "TranslateBulk"):
        assert server.metric("dragoman_requests_in_flight", method=method) == 0
    await until(lambda: len(asyncio.all_tasks()) <= tasks_before)


async def test_killed_calls_leave_nothing_behind() -> None:
    """Three of ten calls of every kind are given up at a random moment; the others are answered."""
    async with edge_server(max_waiting=500) as server, server.client() as client:
        await client.list_models()
        tasks = len(asyncio.all_tasks())
        numbers = random.Random(3)
        killed = await call_and_kill(client, calls=150, killed=0.3, at_a_time=16, longest_seconds=0.02, numbers=numbers)
        assert killed > 20
        await nothing_is_left(server, tasks)
        assert (await client.translate(["I love you."], source="en", target="de")).translations[0].text == "I love you."


def gauges(metrics_url: str, name: str) -> list[float]:
    """The values of one gauge, whatever its labels."""
    with urllib.request.urlopen(metrics_url, timeout=10) as page:
        return [float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", page.read().decode(), re.MULTILINE)]


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_a_server_of_its_own_keeps_its_size(bundled_int8: Path, results: dict[str, object]) -> None:
    """With the real engine: after 6,000 calls, 30% killed, resident memory is within 2% of that after 1,500."""
    numbers = random.Random(4)
    sizes, killed = [], 0
    with ServerProcess([*SERVICE, "--bundle", bundled_int8]) as server:
        assert server.metrics_url is not None
        async with AsyncTranslationClient(server.address) as client:
            for calls in (1500, 2000, 2500):
                killed += await call_and_kill(
                    client, calls=calls, killed=0.3, at_a_time=24, longest_seconds=0.2, numbers=numbers
                )
                while any(gauges(server.metrics_url, "dragoman_requests_in_flight")):
                    await asyncio.sleep(0.05)
                sizes.append(server.memory_bytes() or 0)
            for name in ("row_slots_used", "sentence_slots_used", "queue_sequences"):
                values = gauges(server.metrics_url, f"dragoman_{name}")
                assert values, name
                assert not any(values), name
    results["killed_calls"] = {
        "calls": 6000,
        "killed": killed,
        "resident_bytes": sizes,
        "ratio": round(sizes[-1] / sizes[0], 4),
    }
    assert killed > 500
    assert 0 < sizes[-1] < sizes[0] * 1.02
