"""An engine that was shut down leaves at once with its runner's memory: nobody has to collect garbage for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.bundle import Bundle
from service.engine import DecodingOptions, Engine
from service.errors import DragomanError
from service.runtime import RuntimeSettings, load_runners
from service.translator import (
    DecodingCache,
    ModelCatalogue,
    TranslationOptions,
    TranslationRequest,
    Translator,
    TranslatorLimits,
)
from tests.doubles.echo_model import EchoRunner, echo_model, tiny_tokenizer
from tests.doubles.fake_runner import FakeRunner


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """What these tests see go has gone by its last reference. (pytest would keep the frames of logged errors.)"""
    logging.disable()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def use(engine: Engine, sources: list[tuple[int, ...]]) -> None:
    """Every way for a sequence to end: searched, sampled, cancelled, expired, refused, its callback failing."""

    def failing(ids: tuple[int, ...]) -> None:
        raise RuntimeError(f"a callback failed after {len(ids)}")

    options = [
        DecodingOptions(),
        DecodingOptions(beam_size=3, num_hypotheses=2),
        DecodingOptions(sampling=True, temperature=2.0, seed=1),
    ]
    tickets = [engine.submit(source, option) for source in sources for option in options]
    tickets.append(engine.submit(sources[0], DecodingOptions(), deadline=time.monotonic() + 1e-3))
    tickets.append(engine.submit(sources[0], DecodingOptions(), deadline=time.monotonic() + 3600))
    tickets.append(engine.submit(sources[0], DecodingOptions(), on_token=failing))
    tickets[0].cancel()
    for ticket in tickets:
        ticket.future.exception(30)
    with suppress(DragomanError):
        engine.submit([], DecodingOptions())


def test_an_engine_goes_with_its_last_reference() -> None:
    """Whatever its sequences ended with."""
    runner = FakeRunner()
    engine = Engine([runner])
    engine.start()
    use(engine, [(2, 2, 2, 17), (5, 6)])
    engine.shutdown(grace_seconds=5)
    gone: list[weakref.ref[object]] = [weakref.ref(engine), weakref.ref(runner)]
    del engine, runner
    assert [each() for each in gone] == [None, None]


def test_an_engine_that_was_shut_down_with_work_goes_too() -> None:
    """Sequences that are answered by the shutdown keep nothing."""
    runner = EchoRunner(tiny_tokenizer())
    engine = Engine([runner])
    engine.start()
    runner.gate.clear()
    tickets = [engine.submit(tiny_tokenizer().encode("I love you.").ids, DecodingOptions()) for _ in range(20)]
    engine_gone, runner_gone = weakref.ref(engine), weakref.ref(runner)
    gate = runner.gate
    engine.shutdown(grace_seconds=0)
    gate.set()
    for ticket in tickets:
        assert ticket.future.done()
    for thread in engine._threads:
        thread.join(20)
    del engine, runner, tickets, ticket, thread
    assert (engine_gone(), runner_gone()) == (None, None)


@pytest.mark.parametrize("cache", [None, DecodingCache(max_bytes=2**20)], ids=["alone", "shared"])
async def test_the_translator_keeps_no_engine(cache: DecodingCache | None) -> None:
    """Answers, refusals, failed steps, deadlines, cancelled calls and streams that were left; the cache keeps none."""
    runner = EchoRunner(tiny_tokenizer())
    model = echo_model(tiny_tokenizer(), runner=runner)
    model.engine.start()
    gone: list[weakref.ref[object]] = [weakref.ref(model.engine), weakref.ref(runner)]
    translator = Translator(ModelCatalogue([model]), TranslatorLimits(sentences_in_flight=8), cache=cache)
    await use_translator(translator, runner)
    model.engine.shutdown(grace_seconds=5)  # here, as a thread that did it might hold the engine a moment longer
    del model, translator, runner
    await asyncio.sleep(0)
    assert [each() for each in gone] == [None, None]


async def use_translator(translator: Translator, runner: EchoRunner) -> None:
    """Calls that end in every way."""

    def asked(text: str, target: str = "de", beam_size: int = 1) -> TranslationRequest:
        options = TranslationOptions(beam_size=beam_size, return_alignments=True)
        return TranslationRequest(contents=(text,), source_language="en", target_language=target, options=options)

    letter = "I love you. How are you?\n" * 4
    await translator.translate(asked(letter, beam_size=2), deadline=time.monotonic() + 30)
    async for _ in translator.stream(asked(letter), deadline=time.monotonic() + 30):
        pass
    left = translator.stream(asked(letter * 10), deadline=time.monotonic() + 30)
    await anext(left)
    await left.aclose()
    for request in (asked(letter, target="sw"), asked(letter, beam_size=99)):
        with suppress(DragomanError):
            await translator.translate(request, deadline=None)
    runner.failing = True
    with suppress(DragomanError):
        await translator.translate(asked(letter), deadline=None)
    runner.failing = False
    runner.gate.clear()
    with suppress(DragomanError):
        await translator.translate(asked(letter), deadline=time.monotonic() + 0.05)
    call = asyncio.create_task(translator.translate(asked(letter), deadline=None))
    await asyncio.sleep(0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    runner.gate.set()


def test_the_memory_of_a_real_model_goes_at_once(tiny_bundle: Path) -> None:
    """Caches, bindings and sessions, of every worker."""
    settings = RuntimeSettings(workers=2, row_slots=6, max_source_tokens=24, max_output_tokens=24)
    runners = load_runners(Bundle.load(tiny_bundle), settings)
    engine = Engine(runners)
    engine.start()
    use(engine, [(5, 6, 7, 0), (9, 0)])
    engine.shutdown(grace_seconds=5)
    gone: list[weakref.ref[object]] = [weakref.ref(engine)]
    for runner in runners:
        gone += [weakref.ref(runner), weakref.ref(runner._own), weakref.ref(runner._sessions.decoder)]  # type: ignore[attr-defined]
    del engine, runners, runner
    assert [each() for each in gone] == [None] * 7
