"""The engine: takes sequences in, runs the workers' threads, and answers each sequence exactly once."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from concurrent.futures import Future

import numpy as np

from service.engine.limits import EngineLimits
from service.engine.observer import EngineObserver, SilentObserver
from service.engine.options import DecodingOptions, Priority
from service.engine.runner import ModelLimits, ModelRunner
from service.engine.scheduler import Scheduler
from service.engine.sequence import DecodingResult, FinishReason, Sequence
from service.engine.sharing import RunningRows
from service.engine.worker import Worker
from service.errors import CancelledError, InvalidInputError, UnavailableError

log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.05  # how often an idle worker looks for expired deadlines


class Ticket:
    """A submitted sequence: its answer to come, and the way to call it off."""

    def __init__(self, engine: Engine, sequence: Sequence) -> None:
        self._engine = engine
        self._sequence = sequence

    @property
    def future(self) -> Future[DecodingResult]:
        """Resolves exactly once: the result, CancelledError, DeadlineError, EngineError or UnavailableError."""
        return self._sequence.future

    def cancel(self) -> None:
        """Leave the queue at once, or the batch before its next step. Harmless when already answered."""
        self._engine.cancel(self._sequence)


class Engine:
    """Continuous batching over one or more workers that share an admission queue.

    `runners` serve the same model; each gets a thread of its own. `step` may be driven by hand in tests instead of
    `start`.
    """

    def __init__(
        self,
        runners: Many[ModelRunner],
        *,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or EngineLimits()
        self._observer = observer or SilentObserver()
        self._clock = clock
        self._model = runners[0].limits
        row_slots = sum(runner.limits.row_slots for runner in runners)
        self._scheduler = Scheduler(limits, row_slots=row_slots, observer=self._observer, clock=clock)
        gathered = 0 if limits.static_batching else self._model.lone_rows
        everybody = RunningRows(len(runners), gathered=gathered)
        self._workers = [
            Worker(
                number,
                runner,
                self._scheduler,
                everybody=everybody,
                limits=limits,
                observer=self._observer,
                clock=clock,
            )
            for number, runner in enumerate(runners)
        ]
        self._threads: list[threading.Thread] = []
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._bulk_rows = self._model.row_slots - limits.reserved_rows

    @property
    def model(self) -> ModelLimits:
        """Limits of the model that runs."""
        return self._model

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._scheduler)

    @property
    def running(self) -> int:
        """Sequences in a batch."""
        return sum(worker.running for worker in self._workers)

    def stalled_seconds(self) -> float:
        """How long the slowest worker with work has gone without finishing a turn; 0 when nothing is to be done."""
        now = self._clock()
        idle = not self.waiting
        return max((now - each.last_turn for each in self._workers if each.running or not idle), default=0.0)

    def failures(self) -> int:
        """Turns in a row that the runner of a worker has failed, of the worker with the most."""
        return max(worker.failures for worker in self._workers)

    def step_seconds(self) -> float:
        """What a recent decode step took; 0 before the first."""
        return self._scheduler.cost.step_seconds

    def submit(
        self,
        source_ids: Many[int],
        options: DecodingOptions,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        follows: bool = False,
        on_token: Callable[[tuple[int, ...]], None] | None = None,
    ) -> Ticket:
        """Queue one sentence (`source_ids` as the tokenizer made them, EOS included); safe from any thread.

        `deadline` is a time of the engine's (monotonic) clock; a sentence that `follows` others of its call may wait
        for them as long as it likes. `on_token` gets the ids so far after each step of a sequence with one row, on the
        worker's thread. Raises InvalidInputError, OverloadedError, DeadlineError or UnavailableError at once.
        """
        sequence = Sequence(
            source_ids=self._checked_source(source_ids),
            options=options,
            max_output_tokens=self._checked_options(options, priority),
            priority=priority,
            deadline=deadline,
            follows=follows,
            seed=_seed(options),
            submitted=self._clock(),
            on_token=on_token,
        )
        sequence.future.set_running_or_notify_cancel()  # answers come from us alone; see Ticket.cancel
        self._scheduler.add(sequence)
        return Ticket(self, sequence)

    def _checked_source(self, source_ids: Many[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        count, longest, vocabulary = len(source_ids), self._model.max_source_tokens, self._model.source_vocabulary_size
        if not 0 < count <= longest:
            raise InvalidInputError(f"a source has 1 to {longest} tokens, this one {count}", field="source_ids")
        if min(source_ids) < 0 or max(source_ids) >= vocabulary:
            raise InvalidInputError(f"token ids are 0 to {vocabulary - 1}", field="source_ids")
        return np.asarray(source_ids, np.int32)

    def _checked_options(self, options: DecodingOptions, priority: Priority) -> int:
        """The output limit in tokens, EOS counted."""
        model = self._model
        rows = self._bulk_rows if priority is Priority.BULK else model.row_slots
        if options.beam_size > rows:
            raise InvalidInputError(f"beam_size may be at most {rows} here", field="beam_size")
        limit = model.max_output_tokens if options.max_output_tokens is None else options.max_output_tokens
        if limit > model.max_output_tokens:
            message = f"max_output_tokens may be at most {model.max_output_tokens} here"
            raise InvalidInputError(message, field="max_output_tokens")
        prefix = options.target_prefix
        if len(prefix) >= limit:
            raise InvalidInputError("target_prefix leaves no room for an output", field="target_prefix")
        forbidden = {model.eos_id, model.pad_id}
        if any(not 0 <= token < model.vocabulary_size or token in forbidden for token in prefix):
            raise InvalidInputError("target_prefix holds an id that is not a word piece", field="target_prefix")
        if options.min_output_tokens > limit:
            raise InvalidInputError("min_output_tokens exceeds the output limit", field="min_output_tokens")
        if options.return_alignments and not model.has_alignments:
            raise InvalidInputError("this model has no alignments", field="return_alignments")
        return limit

    def cancel(self, sequence: Sequence) -> None:
        """See Ticket.cancel."""
        sequence.cancelled = True
        if self._scheduler.abort(sequence):
            self._observer.finished(FinishReason.CANCELLED, sequence.timings(self._clock()))
            sequence.future.set_exception(CancelledError("cancelled by the caller"))

    def step(self) -> bool:
        """One turn of every worker, on the calling thread; False when none had work."""
        worked = [worker.step() for worker in self._workers]
        return any(worked)

    def start(self) -> None:
        """Start the workers' threads."""
        for worker in self._workers:
            thread = threading.Thread(target=self._run, args=(worker,), name=f"worker-{worker.number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            try:
                busy = worker.step()
            except Exception:
                log.exception("a worker's turn failed")
                worker.fail_all(UnavailableError("the service failed"))
                busy = False
            if not busy:
                if self._draining.is_set() and not self.waiting:
                    return
                self._scheduler.wait_for_work(_IDLE_SECONDS, newcomers_only=worker.leaves_newcomers)

    def shutdown(self, *, grace_seconds: float) -> bool:
        """Refuse new work, finish what was accepted, stop; says whether all of it was finished in time.

        What is left after `grace_seconds` is answered with UnavailableError.
        """
        self._scheduler.close()
        self._draining.set()
        end = self._clock() + grace_seconds
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))
        self._stopping.set()
        self._scheduler.wake()
        for thread in self._threads:
            thread.join(1.0)
        left = self._scheduler.take_all()
        error = UnavailableError("the service shut down before this was translated")
        for sequence in left:
            self._observer.finished(FinishReason.ERROR, sequence.timings(self._clock()))
            sequence.future.set_exception(error)
        complete = not left and not self.running
        for worker in self._workers:
            worker.abandon(error)
        return complete


def _seed(options: DecodingOptions) -> int:
    """The caller's, or one that nobody can guess; asking the system for one takes a tenth of what submitting does."""
    if options.seed is not None:
        return options.seed
    return secrets.randbits(63) if options.sampling else 0
