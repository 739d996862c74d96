"""`python -m loadtests.empty_server`: answers every Translate at once with nothing, to prove the generator."""

from __future__ import annotations

import asyncio
import signal

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc


class EmptyService(pb_grpc.TranslationServiceServicer):
    """Translates nothing."""

    async def Translate(  # noqa: N802 - the wire's name
        self,
        request: pb.TranslateRequest,
        context: grpc.aio.ServicerContext[pb.TranslateRequest, pb.TranslateResponse],
    ) -> pb.TranslateResponse:
        """An empty answer."""
        return pb.TranslateResponse()

    async def TranslateStream(self, *arguments: object) -> None:  # type: ignore[override]  # noqa: N802
        """Not part of this server."""

    TranslateBulk = ListModels = TranslateStream  # type: ignore[assignment]


async def serve() -> None:
    """Serve on a free port of 127.0.0.1 until SIGTERM."""
    server = grpc.aio.server()
    pb_grpc.add_TranslationServiceServicer_to_server(EmptyService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"SERVING grpc 127.0.0.1:{port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
