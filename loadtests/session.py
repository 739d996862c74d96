"""A load test from beginning to end: cores, ceiling, server, capacity, then one scenario after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtests.bench.processor import hardware
from loadtests.capacity import Capacity, find_capacity
from loadtests.ceiling import prove_ceiling
from loadtests.cores import Cores, pin
from loadtests.request import GREEDY, Part, draw_requests
from loadtests.results import Results
from loadtests.scenarios.mixes import lengths, options, vanishing
from loadtests.scenarios.rolling_restart import rolling_restart
from loadtests.scenarios.shapes import burst, overload, ramp, soak, steady
from loadtests.scenarios.subject import ScenarioResult, Subject
from loadtests.scenarios.trace import trace
from loadtests.server_process import ServerProcess
from loadtests.target import Calls, Target
from service.errors import InvalidInputError, UnavailableError

SCENARIOS = {each.__name__: each for each in (steady, ramp, burst, overload, lengths, options, vanishing, soak)}
ROLLING_RESTART, TRACE = "rolling-restart", "trace"
ALL_SCENARIOS = (*SCENARIOS, ROLLING_RESTART, TRACE)
SUITE = ("ramp", "burst", "overload", "lengths", "options", "vanishing", ROLLING_RESTART)
CONNECT_SECONDS = 3.0
PATIENT_SECONDS = 60.0
LIMIT_FACTOR = 5.0
"""The limit for a good answer, where none is given, over the slow quantile of calls that are alone."""
RESTART_LOAD, RESTART_LENGTH = 0.4, 3.0
"""Load of a rolling restart, over one server's capacity, and its length over a usual phase's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run on what; `command` starts the server, unless `address` names one that runs."""

    scenarios: Sequence[str]
    address: str | None
    command: Sequence[str]
    cores: Cores
    source: str
    target: str
    texts: tuple[str, ...]
    seconds: float
    ceiling_seconds: float
    in_flight: int
    seed: int
    limit_seconds: float | None
    trace: Path | None

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.ceiling_seconds > 0 and self.in_flight > 0):
            raise InvalidInputError("--seconds, --ceiling-seconds and --in-flight must be above 0")
        if TRACE in self.scenarios and self.trace is None:
            raise InvalidInputError("the scenario trace needs --trace FILE")
        if ROLLING_RESTART in self.scenarios and self.address is not None:
            raise InvalidInputError(f"{ROLLING_RESTART} starts its servers itself and cannot have --address")


Say = Callable[[str], None]


async def run(order: Order, settings: dict[str, str], say: Say) -> Results:
    """Carry `order` out; `say` gets a line about whatever was found. Raises DragomanError."""
    machine = hardware()
    pin(0, order.cores.generator)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    async with AsyncExitStack() as stack:
        server = None if order.address else stack.enter_context(ServerProcess(order.command, cores=order.cores.server))
        target = await _connected(order, server, stack, timeout_seconds=PATIENT_SECONDS)
        ceiling = await prove_ceiling(order.cores, seconds=order.ceiling_seconds)
        say(f"the generator's own ceiling: {ceiling:g} calls/s")
        subject = await _subject(order, server, target, stack, say)
        scenarios: list[ScenarioResult] = []
        for name in order.scenarios:
            say(name)
            scenarios.append(await _scenario(name, subject, order))
            for threshold in scenarios[-1].thresholds:
                say(f"  {threshold.describe()}")
    return Results(
        began=began,
        server=order.address or " ".join(order.command[1:]),
        settings=settings,
        hardware=machine,
        limit_seconds=subject.limit_seconds,
        ceiling_per_second=ceiling,
        capacity=subject.capacity,
        scenarios=scenarios,
    )


async def _subject(
    order: Order, server: ServerProcess | None, patient: Target, stack: AsyncExitStack, say: Say
) -> Subject:
    """Find out what the server can do."""
    requests = draw_requests([Part(weight=1.0, kind=GREEDY, texts=order.texts)], seed=order.seed)
    capacity = await find_capacity(patient.send, requests, in_flight=order.in_flight, seconds=order.seconds)
    limit = order.limit_seconds or LIMIT_FACTOR * capacity.alone_slow_seconds
    _say_capacity(capacity, limit, say)
    hurried = await _connected(order, server, stack, timeout_seconds=limit)
    return Subject(
        send=hurried.send,
        send_patiently=patient.send,
        capacity=capacity,
        limit_seconds=limit,
        seconds=order.seconds,
        seed=order.seed,
        texts=order.texts,
        metrics_url=server.metrics_url if server else None,
        process=server,
    )


async def _connected(
    order: Order, server: ServerProcess | None, stack: AsyncExitStack, *, timeout_seconds: float
) -> Target:
    address = server.address if server else order.address or ""
    calls = Calls(source=order.source, target=order.target, timeout_seconds=timeout_seconds)
    target = await stack.enter_async_context(Target(address=address, calls=calls))
    if not await target.wait_until_connected(timeout_seconds=CONNECT_SECONDS):
        raise UnavailableError(f"nobody answers at {address}")
    return target


def _say_capacity(capacity: Capacity, limit_seconds: float, say: Say) -> None:
    say(
        f"alone {1e3 * capacity.alone_seconds:.0f} ms, capacity {capacity.per_second:.1f} calls/s, "
        f"an answer is good within {1e3 * limit_seconds:.0f} ms"
    )


async def _scenario(name: str, subject: Subject, order: Order) -> ScenarioResult:
    if name == ROLLING_RESTART:
        return await rolling_restart(
            order.command,
            order.cores,
            source=order.source,
            target=order.target,
            texts=order.texts,
            rate=RESTART_LOAD * subject.capacity.per_second,
            seconds=RESTART_LENGTH * order.seconds,
            seed=order.seed,
        )
    if name == TRACE and order.trace is not None:
        return await trace(subject, order.trace)
    return await SCENARIOS[name](subject)
