"""Runs the pieces of one call through the engine, a window of them at a time, and cancels what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace

from service.engine import DecodingOptions, DecodingResult, Priority
from service.errors import EngineError, OverloadedError
from service.translator.catalogue import ServedModel
from service.translator.runaway import find_runaway, firm_length, guarded_options
from service.translator.sharing import Origin, PendingDecoding, SharedDecoding
from service.translator.translation import Fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingJob:
    """One piece for the engine."""

    source_ids: tuple[int, ...]
    options: DecodingOptions

    def firm_length(self, ids: Sequence[int]) -> int:
        """How many of `ids`, its output so far, stay even if it is decoded again."""
        return firm_length(ids, len(self.source_ids), len(self.options.target_prefix))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTokens:
    """Job `index` runs and has these target ids so far."""

    index: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """Job `index` has ended; with a `fallback` it was decoded twice. `origin` is that of the decoding which counts."""

    index: int
    result: DecodingResult
    fallback: Fallback | None
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobEnded:
    index: int
    result: DecodingResult | None
    error: BaseException | None


class DecodingRun:
    """The jobs of one call; iterate `events()` once, to the end or until you have enough.

    The window holds so many jobs, and so many source tokens or a single job. Those that fit into it at first are
    accepted or refused together; later ones wait for room. With
    `patient` even the first wait. Whatever ends the iteration, an error or its caller's leaving, cancels the rest.
    """

    def __init__(
        self,
        model: ServedModel,
        sharing: SharedDecoding,
        jobs: Sequence[DecodingJob],
        *,
        priority: Priority,
        deadline: float | None,
        window: int,
        window_tokens: int,
        patient: bool,
        wants_tokens: bool = False,
    ) -> None:
        self._model = model
        self._sharing = sharing
        self._jobs = jobs
        self._priority = priority
        self._deadline = deadline
        self._window = window
        self._window_tokens = window_tokens
        self._patient = patient
        self._wants_tokens = wants_tokens
        self._next = 0
        self._tokens_in_flight = 0
        self._again: dict[int, DecodingJob] = {}
        self._fallbacks: dict[int, Fallback] = {}
        self._pending: dict[int, PendingDecoding] = {}
        self._events: asyncio.Queue[JobTokens | _JobEnded] = asyncio.Queue()

    async def events(self) -> AsyncGenerator[JobTokens | JobResult]:
        """Tokens (if wanted) and results of all jobs, as they come. Raises the first job's error."""
        try:
            self._submit_first()
            while self._pending or self._again or self._next < len(self._jobs):
                await self._fill_window()
                event = self._accepted(await self._events.get())
                if event is not None:
                    yield event
        finally:
            # A raised error's traceback holds this frame, and with it the engine: neither a pending decoding nor an
            # event, which hold errors, may stay here, or the engine's memory waits for the garbage collector.
            while self._pending:
                self._pending.popitem()[1].cancel()
            self._events = asyncio.Queue()

    def _accepted(self, event: JobTokens | _JobEnded) -> JobTokens | JobResult | None:
        """What to tell of `event`; raises the error of a job that failed."""
        if isinstance(event, JobTokens):
            return event
        origin = self._pending.pop(event.index).origin
        self._tokens_in_flight -= len(self._jobs[event.index].source_ids)
        if event.result is not None:
            return self._guard(event.index, event.result, origin)
        error = event.error or EngineError("a job ended with nothing: this is a bug")
        try:
            raise error.with_traceback(None)  # sequences that ended together share it
        finally:
            del event, error  # see `events`

    def _guard(self, index: int, result: DecodingResult, origin: Origin) -> JobResult | None:
        """The job's result; None if it has run away, and is to be decoded once more with a guard."""
        job, best = self._jobs[index], result.hypotheses[0]
        earlier = self._fallbacks.get(index)
        found = None if earlier else find_runaway(best, job.source_ids, len(job.options.target_prefix))
        if found is None:
            return JobResult(index=index, result=result, fallback=earlier, origin=origin)
        self._fallbacks[index] = found
        limit = self._model.max_target_tokens
        options = guarded_options(job.options, best.ids, len(job.source_ids), limit=limit)
        self._again[index] = replace(job, options=options)
        return None

    def _submit_first(self) -> None:
        if self._patient:
            return
        while self._has_room():
            self._submit()

    async def _fill_window(self) -> None:
        """Submits what fits; when the queue is full, returns to wait for a job of ours, or waits if there is none."""
        while self._has_room():
            try:
                self._submit()
            except OverloadedError as refusal:
                if self._pending:
                    return
                await asyncio.sleep(refusal.retry_after_seconds)

    def _has_room(self) -> bool:
        if not self._again and self._next == len(self._jobs):
            return False
        tokens = self._tokens_in_flight
        return not self._pending or (len(self._pending) < self._window and tokens < self._window_tokens)

    def _submit(self) -> None:
        """Puts the next job into the engine: one to be repeated, or else a new one."""
        index, job = next(iter(self._again.items())) if self._again else (self._next, self._jobs[self._next])
        # What the engine keeps holds the queue alone: the run holds the engine.
        loop, events = asyncio.get_running_loop(), self._events

        def post(event: JobTokens | _JobEnded) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        def ended(future: Future[DecodingResult]) -> None:
            error = future.exception()
            post(_JobEnded(index=index, result=None if error else future.result(), error=error))

        on_token: Callable[[tuple[int, ...]], None] | None = None
        if self._wants_tokens:
            on_token = lambda ids: post(JobTokens(index=index, ids=ids))  # noqa: E731 - a line shorter than a def
        pending = self._sharing.submit(
            self._model,
            job.source_ids,
            job.options,
            priority=self._priority,
            deadline=self._deadline,
            follows=self._next > 0 or self._patient,
            on_token=on_token,
        )
        self._pending[index] = pending
        self._tokens_in_flight += len(job.source_ids)
        if self._again.pop(index, None) is None:
            self._next += 1
        pending.future.add_done_callback(ended)
