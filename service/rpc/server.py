"""The gRPC server: options, services and the port."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dragoman.google_v3 import translation_service_pb2_grpc as google_grpc
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.errors import ConfigError
from service.rpc.google import GoogleTranslationServicer
from service.rpc.health import HealthStates
from service.rpc.interceptor import SERVICE, CallInterceptor
from service.rpc.servicer import TranslationServicer

_METADATA_BYTES = 8 * 1024
"""All metadata of a call together; beyond it gRPC refuses some calls at random, beyond twice as much all."""

_HANDSHAKE_MILLISECONDS = 10_000
"""A connection that has not become one of TLS and HTTP/2 by then is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What bounds the server's connections."""

    max_message_bytes: int
    max_connections: int
    max_streams_per_connection: int
    max_connection_age_seconds: float
    max_connection_age_grace_seconds: float
    keepalive_seconds: float
    reflection: bool

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same as gRPC core knows it (grpc/impl/channel_arg_names.h)."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_concurrent_streams", self.max_streams_per_connection),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
            ("grpc.max_connection_age_ms", _milliseconds(self.max_connection_age_seconds)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.max_connection_age_grace_seconds)),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # Two servers on one port would share its calls unasked; a port in use must be an error.
            ("grpc.so_reuseport", 0),
        ]


def build_server(
    servicer: TranslationServicer, interceptor: CallInterceptor, health_states: HealthStates, options: ServerOptions
) -> aio.Server:
    """A server with all services, not yet bound or started."""
    server = aio.server(
        interceptors=[interceptor], options=options.channel_arguments(), compression=grpc.Compression.NoCompression
    )
    pb_grpc.add_TranslationServiceServicer_to_server(servicer, server)
    google_grpc.add_TranslationServiceServicer_to_server(GoogleTranslationServicer(servicer), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_states.servicer, server)
    if options.reflection:
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return server


def bind(
    server: aio.Server, host: str, port: int, *, setting: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """The port that `server` listens on, with TLS if there are `credentials`.

    Raises ConfigError with one line, which names `setting`, if it cannot.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not _is_free(host, port):
        raise ConfigError(f"{setting}: cannot listen on {host}:{port}; is the port in use?")
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConfigError(f"{setting}: cannot listen on {host}:{port}") from None


def _is_free(host: str, port: int) -> bool:
    """Asked before gRPC tries, which writes lines of its own to standard error when it fails."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError:
        return False


def _milliseconds(seconds: float) -> int:
    return min(int(seconds * 1000), 2**31 - 1)
