"""A plain grpc.aio server around a translation library: tokenize, batch, translate, put together again."""

from __future__ import annotations

import argparse
import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from loadtests.peers.batching import DynamicBatcher, QueueFullError, Search, Translate
from service.tokenizer import Tokenizer

MAX_WAITING = 1024


def server_parser(description: str) -> argparse.ArgumentParser:
    """The options that every peer's server has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument("--workers", type=int, required=True, help="batches side by side")
    parser.add_argument("--threads", type=int, required=True, help="threads of each")
    parser.add_argument("--batch-size", type=int, required=True, help="most sentences of a batch")
    parser.add_argument("--wait-milliseconds", type=float, required=True, help="longest wait for company")
    return parser


class PeerService(pb_grpc.TranslationServiceServicer):
    """Translates one sentence a call."""

    def __init__(self, tokenizer: Tokenizer, batcher: DynamicBatcher) -> None:
        self._tokenizer = tokenizer
        self._batcher = batcher

    async def Translate(  # noqa: N802 - the wire's name
        self,
        request: pb.TranslateRequest,
        context: grpc.aio.ServicerContext[pb.TranslateRequest, pb.TranslateResponse],
    ) -> pb.TranslateResponse:
        """The first content, as one sentence."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        source = list(self._tokenizer.encode(request.contents[0]).ids)
        options = request.options
        search = Search(
            options.beam_size or 1, options.length_penalty, options.stopping_rule == pb.STOPPING_RULE_MARIAN
        )
        try:
            done = await self._batcher.submit(source, search)
        except QueueFullError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls wait")
        answered = loop.time()
        response = pb.TranslateResponse()
        response.translations.add(text=self._tokenizer.decode(done.answer.result()))
        timings = response.timings
        timings.queue.FromTimedelta(timedelta(seconds=done.started - done.arrived))
        timings.tokenize.FromTimedelta(timedelta(seconds=done.arrived - arrived))
        timings.decode.FromTimedelta(timedelta(seconds=answered - done.started))
        timings.detokenize.FromTimedelta(timedelta(seconds=loop.time() - answered))
        timings.total.FromTimedelta(timedelta(seconds=loop.time() - arrived))
        return response

    async def TranslateStream(self, *arguments: object) -> None:  # type: ignore[override]  # noqa: N802
        """Not part of this server."""

    TranslateBulk = ListModels = TranslateStream  # type: ignore[assignment]


async def serve(translate: Translate, arguments: argparse.Namespace) -> None:
    """Serve on a free port of 127.0.0.1 until SIGTERM."""
    batcher = DynamicBatcher(
        translate,
        workers=arguments.workers,
        max_batch_size=arguments.batch_size,
        max_wait_seconds=arguments.wait_milliseconds / 1e3,
        max_waiting=MAX_WAITING,
    )
    forming = asyncio.create_task(batcher.run())
    server = grpc.aio.server()
    service = PeerService(Tokenizer.load(arguments.tokenizer), batcher)
    pb_grpc.add_TranslationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"SERVING grpc 127.0.0.1:{port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)
    forming.cancel()
