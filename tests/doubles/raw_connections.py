"""Connections that speak something like HTTP/2, or nothing like it."""

from __future__ import annotations

import asyncio
import random
import struct
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
READ_SECONDS = 0.05


async def send_garbage(address: str, numbers: random.Random) -> None:
    """Connects, sends arbitrary bytes or arbitrary frames behind a right beginning, and leaves."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with suppress(ConnectionError):
        writer.write(_garbage(numbers))
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _garbage(numbers: random.Random) -> bytes:
    match numbers.randrange(4):
        case 0:
            return numbers.randbytes(numbers.randint(1, 2000))
        case 1:
            return PREFACE[: numbers.randint(1, len(PREFACE))] + numbers.randbytes(numbers.randint(0, 50))
        case 2:
            return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * numbers.randint(1, 5)
        case _:
            frames = b"".join(_frame(numbers) for _ in range(numbers.randint(1, 20)))
            return PREFACE + SETTINGS + frames


def _frame(numbers: random.Random) -> bytes:
    """A frame whose length is right, of any type, flags and stream."""
    payload = numbers.randbytes(numbers.choice([0, 4, 8, numbers.randint(0, 300)]))
    stream = numbers.choice([0, 1, 3, numbers.getrandbits(31)])
    header = struct.pack(">I", len(payload))[1:] + bytes([numbers.randrange(12), numbers.randrange(256)])
    return header + struct.pack(">I", stream) + payload
