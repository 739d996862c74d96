"""Two replicas behind a client that takes them in turn are restarted one after the other: no call may fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack

from loadtests.arrivals import Phase, phased_arrivals
from loadtests.cores import Cores
from loadtests.measurement import measure
from loadtests.metrics_page import read_metrics
from loadtests.request import GREEDY, Part, draw_requests
from loadtests.scenarios.subject import ScenarioResult
from loadtests.server_process import ServerProcess
from loadtests.target import Calls, Target
from loadtests.thresholds import Threshold
from service.client.requests import DEFAULT_MAX_MESSAGE_BYTES
from service.client.service_config import channel_options
from service.errors import UnavailableError

RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
TAKES_PART_SECONDS = 20.0


async def rolling_restart(
    command: Sequence[str],
    cores: Cores,
    *,
    source: str,
    target: str,
    texts: tuple[str, ...],
    rate: float,
    seconds: float,
    seed: int,
) -> ScenarioResult:
    """Run two servers of `command`, call them at `rate` from `source` to `target`, and restart both meanwhile."""
    with ExitStack() as stack:
        replicas = [stack.enter_context(ServerProcess(command, cores=cores.server)) for _ in range(2)]
        address = "ipv4:" + ",".join(replica.address for replica in replicas)
        options = [*channel_options(DEFAULT_MAX_MESSAGE_BYTES), *RECONNECT]
        calls = Calls(source=source, target=target)
        async with Target(address=address, calls=calls, channels=1, options=options) as both:
            await both.wait_until_connected(timeout_seconds=10.0)
            requests = draw_requests([Part(weight=1.0, kind=GREEDY, texts=texts)], seed=seed)
            phase = Phase(name="rolling restart", rate=rate, seconds=seconds)
            arrivals = phased_arrivals([phase], seed=seed)
            load = asyncio.create_task(measure(both.send, [phase], arrivals, requests, limit_seconds=seconds))
            restarts = 0
            for replica in replicas:
                await _restart(replica)
                restarts += not load.done()
            phases = await load
    failed = sum(count for status, count in phases[0].summary.statuses.items() if status != "OK")
    thresholds = [
        Threshold(name="rolling restart: failed calls", value=failed, most=0),
        Threshold(name="rolling restart: replicas restarted under load", value=restarts, least=2),
    ]
    return ScenarioResult(name="rolling-restart", phases=phases, thresholds=thresholds)


async def _restart(replica: ServerProcess) -> None:
    """Stop it, start it on the same port, and return when it has answered calls. Raises UnavailableError."""
    port = replica.address.rpartition(":")[2]
    await asyncio.to_thread(replica.stop)
    await asyncio.to_thread(replica.start, ["--port", port])
    end = time.monotonic() + TAKES_PART_SECONDS
    while time.monotonic() < end:
        page = await asyncio.to_thread(read_metrics, replica.metrics_url or "")
        if page.get("dragoman_requests_total", 0.0) > 0:
            return
        await asyncio.sleep(0.1)
    raise UnavailableError("a restarted replica got no calls")
