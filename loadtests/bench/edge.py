"""`python -m loadtests.bench.edge`: what the gRPC edge adds to one call, and what it leaves of the engine's throughput.

Both are measured through a real server process on loopback. The latency that the edge adds to a call is what the caller
sees less what the engine took (queue, encode and decode of the response's timings). The throughput over TranslateBulk,
and over unary calls, is set beside that of the engine as a library with the same workers and rows, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from dragoman.v1 import translation_pb2 as pb
from loadtests.bench.ours import NO_QUEUE_LIMIT
from loadtests.bench.processor import hardware, process_cpu_seconds, usable_cores
from loadtests.bench.statistics import Spread, round_ratios
from loadtests.bench.text import read_lines
from loadtests.server_process import SERVICE, ServerProcess
from loadtests.termination import run_program
from service.bundle import Bundle
from service.client import TranslationClient
from service.engine import DecodingOptions, Engine, Priority
from service.runtime import RuntimeSettings, load_runners
from service.tokenizer import Tokenizer

CALLS = 200
UNARY_IN_FLIGHT = 64
LIMIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Direction:
    """What is asked for in every call."""

    source: str
    target: str

    def request(self, text: str) -> pb.TranslateRequest:
        """A call for one text."""
        return pb.TranslateRequest(contents=[text], source_language_code=self.source, target_language_code=self.target)


def seconds(duration: Duration) -> float:
    """A protobuf duration as seconds."""
    return duration.seconds + duration.nanos / 1e9


def added_seconds(client: TranslationClient, direction: Direction, texts: Sequence[str], *, calls: int) -> list[float]:
    """For each call, one after the other, its latency less the engine's part."""
    added: list[float] = []
    for text in islice(cycle(texts), calls):
        began = time.perf_counter()
        response = client.translate([text], source=direction.source, target=direction.target)
        latency = time.perf_counter() - began
        timings = response.timings
        added.append(latency - sum(map(seconds, (timings.queue, timings.encode, timings.decode))))
    return added


def bulk_rate(client: TranslationClient, direction: Direction, texts: Sequence[str]) -> float:
    """Sentences/s of one TranslateBulk stream."""
    began = time.perf_counter()
    items = (
        pb.TranslateBulkRequest(id=str(number), request=direction.request(text)) for number, text in enumerate(texts)
    )
    answers = list(client.translate_bulk(items, timeout_seconds=LIMIT_SECONDS))
    if len(answers) != len(texts) or any(answer.HasField("error") for answer in answers):
        raise RuntimeError("a sentence was not translated")
    return len(texts) / (time.perf_counter() - began)


def unary_rate(client: TranslationClient, direction: Direction, texts: Sequence[str]) -> float:
    """Sentences/s of unary calls, `UNARY_IN_FLIGHT` at a time."""

    def call(text: str) -> None:
        client.translate([text], source=direction.source, target=direction.target, timeout_seconds=LIMIT_SECONDS)

    began = time.perf_counter()
    with ThreadPoolExecutor(UNARY_IN_FLIGHT) as pool:
        list(pool.map(call, texts))
    return len(texts) / (time.perf_counter() - began)


def engine_rate(engine: Engine, sources: Sequence[Sequence[int]]) -> float:
    """Sentences/s of the engine alone, all submitted at once."""
    began = time.perf_counter()
    tickets = [engine.submit(ids, DecodingOptions(), priority=Priority.BULK) for ids in sources]
    for ticket in tickets:
        ticket.future.result()
    return len(sources) / (time.perf_counter() - began)


def direction_of(bundle: Bundle) -> Direction:
    """The first direction of a bundle."""
    pair = bundle.manifest.language_pairs[0]
    return Direction(pair.source, pair.target)


def encoded(bundle: Bundle, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Source ids of `texts` in the bundle's first direction."""
    tokenizer = Tokenizer.load(bundle.directory)
    token = bundle.manifest.language_pairs[0].target_token
    return [tuple(tokenizer.encode(text, token).ids) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Sentences/s of engine, TranslateBulk and unary calls, and processor seconds of the first two's processes."""

    engine: float
    bulk: float
    unary: float
    engine_cpu_seconds: float
    bulk_cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Milliseconds that the edge adds to a call, and throughputs over the engine's own.

    The client runs on the same cores as the server. `engine_cpu_over_bulk_cpu` leaves it out: it is the part of the
    server's processor time that the engine alone takes for the same sentences.
    """

    calls: int
    added_milliseconds_p50: float
    added_milliseconds_p90: float
    bare_call_milliseconds_p50: float
    sentences: int
    bulk_over_engine: Spread
    unary_over_engine: Spread
    engine_cpu_over_bulk_cpu: Spread


@dataclass(frozen=True, slots=True)
class Sides:
    """A server with its client, and the engine as a library."""

    server: ServerProcess
    client: TranslationClient
    engine: Engine

    def rounds(self, bundle: Bundle, texts: Sequence[str], *, count: int) -> Iterator[Round]:
        """`count` rounds after one that does not count; in each the engine comes before and after the server."""
        direction, sources = direction_of(bundle), encoded(bundle, texts)
        for number in range(count + 1):
            own_cpu = time.process_time()
            before = engine_rate(self.engine, sources)
            own_cpu = time.process_time() - own_cpu
            server_cpu = process_cpu_seconds(self.server.process_id)
            bulk = bulk_rate(self.client, direction, texts)
            server_cpu = process_cpu_seconds(self.server.process_id) - server_cpu
            unary = unary_rate(self.client, direction, texts)
            after = engine_rate(self.engine, sources)
            if number:
                yield Round(
                    engine=statistics.mean((before, after)),
                    bulk=bulk,
                    unary=unary,
                    engine_cpu_seconds=own_cpu,
                    bulk_cpu_seconds=server_cpu,
                )


def bare_calls(client: TranslationClient, *, calls: int, pause_seconds: float) -> list[float]:
    """Seconds of calls that ask for the models only, with pauses: what gRPC and waking up take by themselves."""
    found: list[float] = []
    for _ in range(calls):
        time.sleep(pause_seconds)
        began = time.perf_counter()
        client.list_models()
        found.append(time.perf_counter() - began)
    return found


def measure(bundle: Bundle, texts: Sequence[str], *, rounds: int, calls: int, options: Sequence[str]) -> Measured:
    """All of it, against a server of its own."""
    command: list[str | Path] = [*SERVICE, "--bundle", bundle.directory, *options]
    with ServerProcess(command) as server, TranslationClient(server.address) as client:
        added_seconds(client, direction_of(bundle), texts, calls=20)
        began = time.perf_counter()
        added = sorted(added_seconds(client, direction_of(bundle), texts, calls=calls))
        pause = (time.perf_counter() - began) / calls
        bare = bare_calls(client, calls=max(calls // 4, 1), pause_seconds=pause)
        engine = Engine(load_runners(bundle, RuntimeSettings(workers=usable_cores())), limits=NO_QUEUE_LIMIT)
        engine.start()
        found = list(Sides(server, client, engine).rounds(bundle, texts, count=rounds))
        engine.shutdown(grace_seconds=1.0)
    engines = [each.engine for each in found]
    return Measured(
        calls=calls,
        added_milliseconds_p50=1e3 * added[len(added) // 2],
        added_milliseconds_p90=1e3 * added[len(added) * 9 // 10],
        bare_call_milliseconds_p50=1e3 * statistics.median(bare),
        sentences=len(texts),
        bulk_over_engine=Spread.of(round_ratios([each.bulk for each in found], engines)),
        unary_over_engine=Spread.of(round_ratios([each.unary for each in found], engines)),
        engine_cpu_over_bulk_cpu=Spread.of([each.engine_cpu_seconds / each.bulk_cpu_seconds for each in found]),
    )


def main() -> int:
    """Measure and write the JSON; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.edge", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what runs")
    add("--text", type=Path, required=True, metavar="FILE", help="sentences, one a line, .gz or not")
    add("--sentences", type=int, default=400, help="how many of them (%(default)s)")
    add("--rounds", type=int, default=3, help="rounds of the throughputs (%(default)s)")
    add("--calls", type=int, default=CALLS, help="calls whose latency is taken (%(default)s)")
    add("--output", type=Path, default=Path("build/bench"), metavar="DIR", help="for the JSON (%(default)s)")
    arguments, options = parser.parse_known_args()
    bundle = Bundle.load(arguments.bundle)
    texts = read_lines(arguments.text)[: arguments.sentences]
    measured = measure(bundle, texts, rounds=arguments.rounds, calls=arguments.calls, options=options)
    facts = {"bundle": f"{bundle.manifest.model_id} {bundle.manifest.version}", "hardware": hardware()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{datetime.now(UTC):%Y-%m-%d}-edge.json"
    path.write_text(json.dumps(facts | asdict(measured), indent=1) + "\n", "utf-8")
    bulk, unary = measured.bulk_over_engine, measured.unary_over_engine
    print(
        f"The edge adds {measured.added_milliseconds_p50:.2f} ms to a call that is alone (p50 of {measured.calls}); "
        f"a call that asks for nothing takes {measured.bare_call_milliseconds_p50:.2f} ms after as long a pause"
    )
    cpu = measured.engine_cpu_over_bulk_cpu
    print(
        f"The engine alone takes {cpu.median:.3f} ({cpu.least:.3f} to {cpu.largest:.3f}) of the server's processor time"
    )
    for name, spread in (("TranslateBulk", bulk), (f"unary calls, {UNARY_IN_FLIGHT} in flight", unary)):
        print(f"{name}: {spread.median:.3f} ({spread.least:.3f} to {spread.largest:.3f}) of the engine's throughput")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
