"""Asks a gRPC health service once: `python -m service.health_probe HOST:PORT [NAME]`; exit code 0 means SERVING."""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 2.0


def is_serving(address: str, name: str = "") -> bool:
    """Whether the server at ``address`` answers SERVING for ``name``, such as "liveness", within two seconds."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_SECONDS, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: list[str]) -> int:
    """Exit code 0: serving; 1: not; 2: wrong use."""
    if len(arguments) not in {1, 2}:
        print("usage: python -m service.health_probe HOST:PORT [NAME]", file=sys.stderr)
        return 2
    return 0 if is_serving(*arguments) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
