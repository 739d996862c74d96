"""How clients should call: retries with throttling, all replicas in turn, health watched, no hedging.

UNAVAILABLE and RESOURCE_EXHAUSTED are retried, as then nothing was done yet; the server's `grpc-retry-pushback-ms`
sets the pause. The throttle stops retries of a client most of whose calls fail, so that a service which is down is not
buried. Health is watched on every connection, so that a server which is loading or draining gets no calls. Hedging
(asking twice at once) would double the load of decoding and is left out on purpose. A translation changes nothing, so
that every call may be repeated. Format: https://github.com/grpc/grpc-proto (service_config.proto).
"""

from __future__ import annotations

import json

SERVICE_CONFIG: str = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "dragoman.v1.TranslationService"},
        "methodConfig": [
            {
                "name": [{"service": "dragoman.v1.TranslationService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)


def channel_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    """Options of a channel that follows SERVICE_CONFIG and finds dead connections."""
    return [
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.enable_retries", 1),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
