"""Run a bundle with the service's own engine and runtime, for proofs, evaluation and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service.bundle import Bundle
from service.engine import DecodingOptions, DecodingResult, Engine, EngineLimits, FinishReason, ModelRunner
from service.runtime import RuntimeSettings, load_runners
from service.tokenizer import Tokenizer

ROW_SLOTS = 32
MAX_OUTPUT_TOKENS = 256
"""Where the reference stops, EOS counted."""


def open_runner(bundle: Bundle, *, threads: int) -> ModelRunner:
    """Load a bundle's graphs with room for ``ROW_SLOTS`` rows and the model's longest source."""
    settings = RuntimeSettings(
        threads_per_worker=threads,
        row_slots=ROW_SLOTS,
        max_source_tokens=bundle.manifest.max_source_tokens,
        max_output_tokens=MAX_OUTPUT_TOKENS,
    )
    return load_runners(bundle, settings)[0]


@dataclass(frozen=True, slots=True)
class Answers:
    """The engine's results in the order of the sources, and what decoding them took."""

    results: list[DecodingResult]
    seconds: float

    @property
    def ids(self) -> list[list[int]]:
        """Ids of each best hypothesis, without EOS."""
        return [list(result.hypotheses[0].ids) for result in self.results]

    @property
    def tokens_per_second(self) -> float:
        """Target tokens, EOS counted where it was reached, per second of all of them together."""
        best = [result.hypotheses[0] for result in self.results]
        tokens = sum(len(hypothesis.ids) + (hypothesis.finish_reason is FinishReason.EOS) for hypothesis in best)
        return tokens / max(self.seconds, 1e-9)


class BundleEngine:
    """A started engine over one bundle; get one from ``bundle_engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def decode(
        self,
        sources: Sequence[Sequence[int]],
        options: Sequence[DecodingOptions],
        *,
        progress: Callable[[], None] = lambda: None,
    ) -> Answers:
        """Decode all ``sources`` together, each with its own options."""
        begin = time.monotonic()
        tickets = [self._engine.submit(ids, each) for ids, each in zip(sources, options, strict=True)]
        results: list[DecodingResult] = []
        for ticket in tickets:
            results.append(ticket.future.result())
            progress()
        return Answers(results, time.monotonic() - begin)


@contextmanager
def bundle_engine(bundle: Bundle, *, threads: int = 2) -> Iterator[BundleEngine]:
    """Start an engine with one worker over ``bundle`` and stop it at the end."""
    with engine_over(open_runner(bundle, threads=threads)) as engine:
        yield engine


@contextmanager
def engine_over(runner: ModelRunner) -> Iterator[BundleEngine]:
    """Start an engine over a loaded runner and stop it at the end."""
    limits = EngineLimits(max_waiting_sequences=10**6, max_waiting_tokens=10**9)
    engine = Engine([runner], limits=limits)
    engine.start()
    try:
        yield BundleEngine(engine)
    finally:
        engine.shutdown(grace_seconds=0.0)


class BundleTranslator:
    """Turns texts into translations with a bundle; fits ``exporter.translate.Translator``."""

    def __init__(
        self,
        engine: BundleEngine,
        tokenizer: Tokenizer,
        *,
        target_token: str | None,
        max_source_tokens: int,
        beam_size: int = 1,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._target_token = target_token
        self._max_source_tokens = max_source_tokens
        self._options = DecodingOptions(beam_size=beam_size)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Translate ``texts``; what is longer than the model's limit is cut."""
        encoded = [list(self._tokenizer.encode(text, self._target_token).ids) for text in texts]
        limit = self._max_source_tokens
        sources = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded]
        answers = self._engine.decode(sources, [self._options] * len(sources))
        return [self._tokenizer.decode(ids) for ids in answers.ids]
