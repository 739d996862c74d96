"""Translates a file line by line over TranslateBulk, or every n-th line of it, and goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import grpc

from dragoman.v1 import translation_pb2 as pb
from service.client.errors import TranslationError
from service.client.sync import TranslationClient

# What another replica, or the same one later, may answer.
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkFile:
    """What to translate: the lines of `source` whose number modulo `shards` is `shard`, into files of that shard.

    `output` is a prefix: line i of `<output>-<shard>-of-<shards>.txt` translates the shard's line i, and is empty where
    it could not be translated, which `<...>.errors` tells with the line's number in `source` (the first is 1).
    """

    source: Path
    output: Path
    request: pb.TranslateRequest
    shard: int = 0
    shards: int = 1

    @property
    def translations(self) -> Path:
        """The file of the translations."""
        return self.output.with_name(f"{self.output.name}-{self.shard:05}-of-{self.shards:05}.txt")

    @property
    def errors(self) -> Path:
        """The file of what could not be translated."""
        return self.translations.with_suffix(".errors")

    def lines(self) -> Iterator[tuple[int, str]]:
        """The shard's lines, each with its number in `source`."""
        with self.source.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file):
                if number % self.shards == self.shard:
                    yield number, line.rstrip("\n")


@dataclass(slots=True)
class _Progress:
    """Lines that are written, and those that were answered before one in front of them."""

    written: int
    early: dict[int, str] = field(default_factory=dict)


def translate_file(
    client: TranslationClient,
    job: BulkFile,
    *,
    max_attempts: int = 8,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Translates what is not yet translated; returns how many lines could not be.

    A stream that ends early, because a replica stops or is full, is begun again elsewhere; `max_attempts` times without
    any progress, then TranslationError. Blank lines are not sent.
    """
    progress = _Progress(written=_complete_lines(job.translations))
    attempts = 0
    with (
        job.translations.open("a", encoding="utf-8", newline="\n") as output,
        job.errors.open("a", encoding="utf-8", newline="\n") as errors,
    ):
        while True:
            before = progress.written + len(progress.early)
            try:
                _stream(client, job, progress, output, errors)
                break
            except TranslationError as error:
                if error.code not in _PASSING:
                    raise
                attempts = 1 if progress.written + len(progress.early) > before else attempts + 1
                if attempts >= max_attempts:
                    raise
                wait(min(_LONGEST_WAIT_SECONDS, 2.0**attempts))
    with job.errors.open(encoding="utf-8") as file:
        failed = len(set(file))
    if not failed:
        job.errors.unlink()
    return failed


def _stream(client: TranslationClient, job: BulkFile, progress: _Progress, output: TextIO, errors: TextIO) -> None:
    """One stream over all lines without an answer, whose answers are written in the order of the lines."""
    first, done = progress.written, frozenset(progress.early)

    def items() -> Iterator[pb.TranslateBulkRequest]:
        for index, (number, line) in enumerate(job.lines()):
            if index >= first and index not in done and line.strip():
                request = pb.TranslateRequest()
                request.CopyFrom(job.request)
                request.contents.append(line)
                yield pb.TranslateBulkRequest(id=f"{index}:{number}", request=request)

    blank = (index for index, (_, line) in enumerate(job.lines()) if index >= first and not line.strip())
    next_blank = next(blank, None)

    def write_ready() -> None:
        nonlocal next_blank
        while True:
            if progress.written == next_blank:
                output.write("\n")
                next_blank = next(blank, None)
            elif progress.written in progress.early:
                output.write(progress.early.pop(progress.written) + "\n")
            else:
                break
            progress.written += 1
        output.flush()

    write_ready()
    for answer in client.translate_bulk(items()):
        index, number = map(int, answer.id.split(":"))
        if answer.HasField("error"):
            code = _code(answer.error.code)
            if code in _PASSING:
                continue  # sent again with the next stream
            errors.write(f"{number + 1}: {code.name}: {answer.error.message}\n")
            errors.flush()
            progress.early[index] = ""
        else:
            progress.early[index] = " ".join(answer.response.translations[0].text.splitlines())
        write_ready()
    if progress.early or _left(job, progress.written):
        raise TranslationError("the server has no room for some items", code=grpc.StatusCode.RESOURCE_EXHAUSTED)


def _left(job: BulkFile, written: int) -> bool:
    return any(index >= written for index, _ in enumerate(job.lines()))


def _code(number: int) -> grpc.StatusCode:
    """The status code of a number on the wire; UNKNOWN for one that there is not."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)


def _complete_lines(file: Path) -> int:
    """How many whole lines `file` has; half a line at its end, left by a process that was killed, is cut off."""
    if not file.exists():
        return 0
    with file.open("rb+") as opened:
        lines = end = 0
        for line in opened:
            if line.endswith(b"\n"):
                lines += 1
                end += len(line)
        opened.truncate(end)
    return lines
