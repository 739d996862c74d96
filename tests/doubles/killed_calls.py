"""Calls of every kind, some of which are given up at a random moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

from dragoman.v1 import translation_pb2 as pb
from service.client import AsyncTranslationClient, translate_request

WORDS = ["I love you.", "How are you?", "We are fine; thank you.", "The fox jumps over the lazy dog.", ""]


async def call_and_kill(
    client: AsyncTranslationClient,
    *,
    calls: int,
    killed: float,
    at_a_time: int,
    longest_seconds: float,
    numbers: random.Random,
) -> int:
    """Makes `calls`, and cancels the share `killed` of them within `longest_seconds`; returns how many it cancelled.

    Raises the error of any other call that fails.
    """
    room = asyncio.Semaphore(at_a_time)
    given_up = 0

    async def one() -> None:
        nonlocal given_up
        kind, text = numbers.choice("ubs"), " ".join(numbers.choices(WORDS, k=numbers.randint(1, 6)))
        patience = numbers.uniform(0, longest_seconds) if numbers.random() < killed else None
        async with room:
            try:
                async with asyncio.timeout(patience):
                    await _call(client, kind, text, beam_size=numbers.choice([1, 1, 3]))
            except TimeoutError:
                given_up += 1

    await asyncio.gather(*(one() for _ in range(calls)))
    return given_up


async def _call(client: AsyncTranslationClient, kind: str, text: str, *, beam_size: int) -> None:
    options = pb.TranslationOptions(beam_size=beam_size)
    if kind == "u":
        await client.translate([text, text], source="en", target="de", options=options)
    elif kind == "s":
        async with aclosing(client.stream(text, source="en", target="de", options=options)) as responses:
            async for _ in responses:
                pass
    else:
        request = translate_request([text], source="en", target="de", options=options)

        async def items() -> AsyncIterator[pb.TranslateBulkRequest]:
            for number in range(3):
                yield pb.TranslateBulkRequest(id=str(number), request=request)

        async with aclosing(client.translate_bulk(items())) as answers:
            async for _ in answers:
                pass
