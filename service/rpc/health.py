"""Health by the standard protocol (grpc.health.v1): being alive and being ready are different service names."""

from __future__ import annotations

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from service.rpc.interceptor import SERVICE

LIVENESS = "liveness"
READINESS = "readiness"
# The empty name, the usual question of probes and load balancers, and our service's own mean readiness.
_READY_NAMES = ("", SERVICE, READINESS)
# A probe asks for one short name; nothing larger is read on the port that asks nobody who they are.
_HEALTH_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", 1024),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_metadata_size", 4096),
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.so_reuseport", 0),
)


class HealthStates:
    """What probes are told: alive from the start, ready when models are loaded and until draining begins."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack aio

    async def set_alive(self, *, alive: bool) -> None:
        """Whether this process should go on living."""
        await self.servicer.set(LIVENESS, _status(alive))

    async def set_ready(self, *, ready: bool) -> None:
        """Whether calls should be sent here."""
        for name in _READY_NAMES:
            await self.servicer.set(name, _status(ready))


def build_health_server(states: HealthStates) -> aio.Server:
    """A server of `states` alone, to be bound without TLS: native probes speak none, and it tells nothing else."""
    server = aio.server(options=_HEALTH_SERVER_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(states.servicer, server)
    return server


def _status(good: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
    return health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
