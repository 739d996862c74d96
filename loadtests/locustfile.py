"""For people who like locust's web page: `locust -f loadtests/locustfile.py --host 127.0.0.1:50051`.

Its users wait for an answer before they call again (a closed loop), so that a server which stalls gets fewer calls and
its stall hardly shows. For numbers that count use `python -m loadtests`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc
from grpc.experimental import gevent as grpc_gevent  # type: ignore[attr-defined]  # the stubs lack it
from locust import User, between, events, task

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from loadtests.generated_corpus import mixed_texts

grpc_gevent.init_gevent()

TEXTS = mixed_texts(count=1000, seed=0)
TIMEOUT_SECONDS = 30.0


class Parser(Protocol):
    """What is used of locust's command line."""

    def add_argument(self, name: str, *, default: str, help: str) -> object:  # noqa: A002 - argparse's name
        """One more option."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Parser) -> None:
    """The languages, for models other than the bundled one."""
    parser.add_argument("--source", default="en", help="Source language")
    parser.add_argument("--target", default="de", help="Target language")


class Caller(User):  # type: ignore[misc]  # locust is not typed where it is not installed
    """Translates texts of all lengths: greedy mostly, by beams and as a stream now and then."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(self.host.removeprefix("http://"), options)
        self._stub = pb_grpc.TranslationServiceStub(self._channel)

    def on_stop(self) -> None:
        """Hang up."""
        self._channel.close()

    @task(6)  # type: ignore[untyped-decorator]
    def greedy(self) -> None:
        """The usual call."""
        self._unary("greedy", beam_size=1)

    @task(2)  # type: ignore[untyped-decorator]
    def beam(self) -> None:
        """Four beams."""
        self._unary("beam 4", beam_size=4)

    @task(2)  # type: ignore[untyped-decorator]
    def stream(self) -> None:
        """Text as it is made."""
        request = pb.TranslateStreamRequest(
            content=random.choice(TEXTS),
            source_language_code=self.environment.parsed_options.source,
            target_language_code=self.environment.parsed_options.target,
        )
        with self._told("stream") as tell_length:
            answers = self._stub.TranslateStream(request, timeout=TIMEOUT_SECONDS)
            tell_length(sum(len(answer.text_delta) for answer in answers))

    def _unary(self, name: str, *, beam_size: int) -> None:
        request = pb.TranslateRequest(
            contents=[random.choice(TEXTS)],
            source_language_code=self.environment.parsed_options.source,
            target_language_code=self.environment.parsed_options.target,
            options=pb.TranslationOptions(beam_size=beam_size),
        )
        with self._told(name) as tell_length:
            tell_length(len(self._stub.Translate(request, timeout=TIMEOUT_SECONDS).translations[0].text))

    @contextmanager
    def _told(self, name: str) -> Iterator[Callable[[int], None]]:
        """Tell locust of the call made inside: how long it took, how long its answer was, and whether it failed."""
        started, lengths, failure = time.perf_counter(), [0], None
        try:
            yield lengths.append
        except grpc.RpcError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="grpc",
            name=name,
            response_time=1e3 * (time.perf_counter() - started),
            response_length=lengths[-1],
            exception=failure,
        )
