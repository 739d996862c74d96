"""The client's service config is what the documentation promises."""

from __future__ import annotations

import json

from dragoman.v1 import translation_pb2 as pb
from service.client import SERVICE_CONFIG


def test_retries_are_throttled_and_nothing_is_hedged() -> None:
    """Only statuses that mean "nothing was done" are retried, and all replicas are used."""
    config = json.loads(SERVICE_CONFIG)
    (method,) = config["methodConfig"]
    assert set(method["retryPolicy"]["retryableStatusCodes"]) == {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    assert "hedgingPolicy" not in method
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["retryThrottling"]["maxTokens"] > 0


def test_it_names_the_service_of_the_contract() -> None:
    """A renamed service would leave the config without effect."""
    (name,) = json.loads(SERVICE_CONFIG)["methodConfig"][0]["name"]
    assert name["service"] in {service.full_name for service in pb.DESCRIPTOR.services_by_name.values()}
