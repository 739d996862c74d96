"""A translation by one model: texts to jobs for its engine, and the engine's results back to texts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.errors import InvalidInputError
from service.translator.assembly import assemble
from service.translator.catalogue import LanguagePair, Leg, ServedModel
from service.translator.decoding import DecodingJob, JobResult
from service.translator.preparation import PreparedContent, decoding_options, prepare_contents
from service.translator.sharing import Origin
from service.translator.translation import (
    CallTimings,
    Translation,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
)

# Texts longer than this are split and joined on another thread, so that they hold nobody up.
_LONG_TEXT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A translation in work: its contents, and for each job which piece of which content it is (row, column)."""

    started: float
    tokenize_seconds: float
    model: ServedModel
    pair: LanguagePair
    contents: tuple[PreparedContent, ...]
    jobs: tuple[DecodingJob, ...]
    places: tuple[tuple[int, int], ...]

    def translation(self, row: int, results: Sequence[JobResult | None]) -> Translation:
        """The translation of content `row` from the results of all jobs, of which its own must be there."""
        mine = iter([result for (place, _), result in zip(self.places, results, strict=True) if place == row])
        return self._assembled(row, mine)

    def translations(self, results: Sequence[JobResult | None]) -> tuple[Translation, ...]:
        """The translations of all contents from the results of all jobs."""
        ended = iter(results)
        return tuple(self._assembled(row, ended) for row in range(len(self.contents)))

    def _assembled(self, row: int, results: Iterator[JobResult | None]) -> Translation:
        content = self.contents[row]
        pieces = [None if piece.copied else next(results) for piece in content.pieces]
        return assemble(content, pieces, self.model.tokenizer, self.pair)


class Results:
    """The results of a work's jobs as they end; refused when their alignments are too much for an answer, before
    memory is."""

    def __init__(self, work: Work, *, most_weights: int) -> None:
        self.of_jobs: list[JobResult | None] = [None] * len(work.jobs)
        self._weights_left = most_weights

    def add(self, ended: JobResult) -> None:
        """Raises InvalidInputError."""
        alignment = ended.result.hypotheses[0].alignment
        self._weights_left -= 0 if alignment is None else alignment.size
        if self._weights_left < 0:
            message = "the alignments are too large for one answer; send less text, or do without them"
            raise InvalidInputError(message, field="options.return_alignments")
        self.of_jobs[ended.index] = ended


async def prepare(request: TranslationRequest, leg: Leg) -> Work:
    """Splits and tokenises. Raises InvalidInputError for options that the model does not take."""
    started = time.monotonic()
    model, pair = leg.model, leg.pair
    _check_options(request.options, model)
    if sum(map(len, request.contents)) > _LONG_TEXT:
        contents = await asyncio.to_thread(prepare_contents, request.contents, model, pair)
    else:
        contents = prepare_contents(request.contents, model, pair)
    places = tuple(
        (row, column)
        for row, content in enumerate(contents)
        for column, piece in enumerate(content.pieces)
        if not piece.copied
    )
    firsts = dict(reversed(places))
    jobs = tuple(
        DecodingJob(
            source_ids=contents[row].pieces[column].encoding.ids,
            options=decoding_options(request.options, model.tokenizer, ordinal=ordinal, is_first=column == firsts[row]),
        )
        for ordinal, (row, column) in enumerate(places)
    )
    return Work(
        started=started,
        tokenize_seconds=time.monotonic() - started,
        model=model,
        pair=pair,
        contents=contents,
        jobs=jobs,
        places=places,
    )


async def finish(work: Work, found: Results) -> TranslationResult:
    """The answer, with where its time went."""
    ended, results = time.monotonic(), found.of_jobs
    done = [ended.result for ended in results if ended is not None]
    origins = Counter(ended.origin for ended in results if ended is not None)
    if sum(len(content.text) for content in work.contents) > _LONG_TEXT:
        translations = await asyncio.to_thread(work.translations, results)
    else:
        translations = work.translations(results)
    now = time.monotonic()
    timings = CallTimings(
        total_seconds=now - work.started,
        tokenize_seconds=work.tokenize_seconds,
        detokenize_seconds=now - ended,
        queue_seconds=max((result.timings.queue_seconds for result in done), default=0.0),
        encode_seconds=max((result.timings.encode_seconds for result in done), default=0.0),
        decode_seconds=max((result.timings.decode_seconds for result in done), default=0.0),
        first_token_seconds=max((result.timings.first_token_seconds for result in done), default=0.0),
        steps=max((result.timings.steps for result in done), default=0),
        source_tokens=sum(len(job.source_ids) for job in work.jobs),
        target_tokens=sum(len(result.hypotheses[0].ids) for result in done),
        cached_sentences=origins[Origin.HIT],
        coalesced_sentences=origins[Origin.COALESCED],
        missed_sentences=origins[Origin.MISS],
    )
    return TranslationResult(
        translations=translations, model_id=work.model.id, model_version=work.model.version, timings=timings
    )


def _check_options(options: TranslationOptions, model: ServedModel) -> None:
    """Checks what would otherwise only show with the first sentence: a blank text must not accept nonsense."""
    decoding_options(options, model.tokenizer, ordinal=0, is_first=True)
    if options.return_alignments and not model.supports_alignments:
        raise InvalidInputError("this model has no alignments", field="options.return_alignments")
    if options.max_output_tokens is not None and options.max_output_tokens > model.max_target_tokens:
        message = f"must be at most {model.max_target_tokens} with this model"
        raise InvalidInputError(message, field="options.max_output_tokens")
