"""The engine and the whole service over the GPU's runner: on a GPU where there is one, and on the CPU everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.v1 import translation_pb2 as pb
from service.bundle import Bundle
from service.client import TranslationError
from service.engine import DecodingOptions, Engine, ModelRunner
from service.engine.engine import Ticket
from service.errors import CancelledError, DeadlineError
from service.runtime import RuntimeSettings
from service.runtime.settings import DecodingMode, Provider
from tests import gpu_parity, gpu_smoke
from tests.doubles.clock import ManualClock
from tests.doubles.platform_server import PlatformServer, platform_server
from tests.doubles.schedules import Alone, Arrival, Source, arrivals, differences, run_schedule
from tests.gpu_devices import MODES, PROVIDERS, bits_are_promised, device_runners

LONG = DecodingOptions(min_output_tokens=24, max_output_tokens=24)
SOURCES = [(20, 31, 42, 53, 0), (15, 16, 0), (60, 61, 62, 0), (70, 0), (22, 33, 44, 55, 66, 77, 0)]
LETTER = "I love you. We see the book.\n\n  The child can read it all."

each_provider = pytest.mark.parametrize("provider", PROVIDERS)
each_mode = pytest.mark.parametrize("mode", MODES)


def runner_on(bundle: Bundle, provider: Provider, mode: DecodingMode, *, rows: int = 14) -> ModelRunner:
    """A runner with short slots."""
    return device_runners(
        bundle,
        RuntimeSettings(row_slots=rows, max_source_tokens=40, max_output_tokens=24, provider=provider, mode=mode),
    )[0]


def random_sources(bundle: Bundle) -> st.SearchStrategy[Source]:
    """Any ids of the vocabulary, EOS last."""
    ids = st.lists(st.integers(2, bundle.manifest.dimensions.source_vocabulary_size - 1), max_size=30)
    return ids.map(lambda each: (*each, bundle.manifest.special_ids.eos))


def run(engine: Engine) -> None:
    """Step until nothing is left."""
    while engine.step():
        pass


@each_mode
@each_provider
def test_every_request_is_answered_in_any_company(
    provider: Provider, mode: DecodingMode, tiny_half_bundle: Bundle
) -> None:
    """Random beams, sampling, classes and cancellations: each is answered, bit for bit as alone where promised."""
    alone = Alone(runner_on(tiny_half_bundle, provider, mode))
    engine = Engine([runner_on(tiny_half_bundle, provider, mode)])

    @settings(max_examples=10, deadline=None)
    @given(arrivals(random_sources(tiny_half_bundle), longest=10))
    def every_schedule(schedule: list[Arrival]) -> None:
        tickets = run_schedule(engine, schedule)
        assert engine.running == engine.waiting == 0
        assert [arrival for arrival, ticket in zip(schedule, tickets, strict=True) if unanswered(arrival, ticket)] == []
        if bits_are_promised(provider, mode):
            assert differences(schedule, tickets, alone) == []

    every_schedule()


def unanswered(arrival: Arrival, ticket: Ticket) -> bool:
    """Whether a request failed, or has no answer though nobody called it off."""
    error = ticket.future.exception(0)
    return not isinstance(error, CancelledError) if arrival.cancelled is not None and error else error is not None


@each_mode
@each_provider
def test_a_cancelled_member_leaves_within_one_step(
    provider: Provider, mode: DecodingMode, tiny_half_bundle: Bundle
) -> None:
    """Its beams' rows are free for the next at once; a neighbour's answer is the one it has alone, where promised."""
    engine = Engine([runner_on(tiny_half_bundle, provider, mode, rows=5)])
    reference = engine.submit(SOURCES[0], LONG)
    run(engine)
    victim = engine.submit(SOURCES[1], DecodingOptions(beam_size=4, min_output_tokens=24))
    mate = engine.submit(SOURCES[0], LONG)
    engine.step()
    engine.step()
    victim.cancel()
    engine.step()
    assert isinstance(victim.future.exception(0), CancelledError)
    assert engine.running == 1
    late = engine.submit(SOURCES[2], DecodingOptions(beam_size=4, max_output_tokens=8))
    engine.step()
    assert engine.running == 2
    run(engine)
    assert late.future.exception(0) is None
    assert len(mate.future.result(0).hypotheses[0].ids) == 23
    if bits_are_promised(provider, mode):
        assert mate.future.result(0).hypotheses == reference.future.result(0).hypotheses


@each_provider
def test_deadlines_end_waiting_and_running_work(provider: Provider, tiny_half_bundle: Bundle) -> None:
    """Both get DeadlineError at the next step; a neighbour without a deadline goes on."""
    clock = ManualClock()
    engine = Engine([runner_on(tiny_half_bundle, provider, "fast", rows=1)], clock=clock)
    running = engine.submit(SOURCES[0], LONG, deadline=clock() + 5)
    engine.step()
    waiting = engine.submit(SOURCES[1], LONG, deadline=clock() + 5)
    patient = engine.submit(SOURCES[2], LONG)
    clock.advance(6)
    engine.step()
    assert isinstance(running.future.exception(0), DeadlineError)
    assert isinstance(waiting.future.exception(0), DeadlineError)
    run(engine)
    assert patient.future.exception(0) is None


@each_mode
@each_provider
def test_a_worker_thread_answers_mixed_options_and_drains(
    provider: Provider, mode: DecodingMode, tiny_half_bundle: Bundle
) -> None:
    """Streams, beams, samples and prefixes together on the worker's own thread, stopped while work is left."""
    engine = Engine([runner_on(tiny_half_bundle, provider, mode)])
    streamed: list[tuple[int, ...]] = []
    engine.start()
    stream = engine.submit(SOURCES[0], LONG, on_token=streamed.append)
    options = (
        DecodingOptions(beam_size=5, num_hypotheses=3, length_penalty=0.6),
        DecodingOptions(sampling=True, seed=3, top_k=5),
        DecodingOptions(target_prefix=(30, 31), no_repeat_ngram_size=2),
        DecodingOptions(beam_size=2, return_token_scores=True),
    )
    tickets = [(each, engine.submit(SOURCES[index % 5], each)) for index in range(8) for each in options]
    assert engine.shutdown(grace_seconds=120.0)
    for each, ticket in tickets:
        hypotheses = ticket.future.result(0).hypotheses
        assert len(hypotheses) == each.num_hypotheses
        assert hypotheses[0].ids[: len(each.target_prefix)] == each.target_prefix
    assert streamed[-1] == stream.future.result(0).hypotheses[0].ids


@pytest.fixture(params=PROVIDERS)
async def server(
    request: pytest.FixtureRequest, tiny_half_bundle: Bundle, tmp_path: Path
) -> AsyncIterator[PlatformServer]:
    """The whole service in deterministic mode over the fp16 bundle."""
    (tmp_path / "tiny").symlink_to(tiny_half_bundle.directory)
    options = ["--provider", request.param, "--mode", "deterministic", "--row-slots", "16", "--cache-mib", "0"]
    async with platform_server(tmp_path, options=[*options, "--workers", "1"], runners=device_runners) as running:
        yield running


async def test_the_service_answers_every_kind_of_call(server: PlatformServer) -> None:
    """Unary, stream and many at once agree; greedy and beams together."""
    async with server.client() as client:
        unary = (await client.translate([LETTER], source="en", target="fr")).translations[0].text
        deltas = [response.text_delta async for response in client.stream(LETTER, source="en", target="fr")]
        assert "".join(deltas) == unary
        beams = pb.TranslationOptions(beam_size=4)
        alone = (await client.translate([LETTER], source="en", target="fr", options=beams)).translations[0].text
        calls = [
            client.translate([LETTER], source="en", target="fr", options=options)
            for options in [pb.TranslationOptions(), beams] * 6
        ]
        together = [response.translations[0].text for response in await asyncio.gather(*calls)]
        assert together == [unary, alone] * 6


async def test_a_call_that_is_out_of_time_ends_and_the_next_is_served(server: PlatformServer) -> None:
    """The deadline comes back as such over the wire."""
    async with server.client() as client:
        with pytest.raises(TranslationError) as refused:
            await client.translate([LETTER * 40], source="en", target="de", timeout_seconds=0.02)
        assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await client.translate(["I love you."], source="en", target="de")).translations[0].text


@each_provider
def test_the_programs_for_a_gpu_find_nothing_wrong(
    provider: Provider, tiny_bundle: Path, tiny_half_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Smoke and parity; a random model's near ties may cost it tokens in fp16, but never its batch invariance."""
    (tmp_path / "fp32").symlink_to(tiny_bundle)
    (tmp_path / "fp16").symlink_to(tiny_half_bundle.directory)
    (tmp_path / "text").write_text("I see the book.\nyou love it all\nWe love this garden.\n" * 3, encoding="utf-8")
    bundles = ["--device", provider, "--bundles", str(tmp_path)]
    assert gpu_smoke.main(bundles) == 0
    output = tmp_path / "parity.json"
    files = ["--text", str(tmp_path / "text"), "--output", str(output)]
    code = gpu_parity.main([*bundles, *files, "--rows", "8", "--rounds", "1", "--threads", "1"])
    assert code == 0 or (provider == "cuda" and code == gpu_smoke.MISMATCH)
    assert "deterministic: 0 sentences depend on their company" in capsys.readouterr().out
    assert '"sentences": 9' in output.read_text(encoding="utf-8")
