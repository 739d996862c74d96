"""Health by the standard protocol (grpc.health.v1): being alive and being ready are different service names."""

from __future__ import annotations

from grpc_health.v1 import health, health_pb2

from service.rpc.interceptor import SERVICE

LIVENESS = "liveness"
READINESS = "readiness"
# The empty name, the usual question of probes and load balancers, and our service's own mean readiness.
_READY_NAMES = ("", SERVICE, READINESS)


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


def _status(good: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
    return health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
