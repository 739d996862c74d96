"""Token buckets, with a clock moved by hand."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import QuotaError
from service.rpc.quota import Quota, TokenBucket
from service.tokens import TokenLimits
from tests.doubles.clock import ManualClock


def test_a_bucket_gives_its_capacity_at_once_and_its_rate_for_ever() -> None:
    """And says how long to wait for what it refuses, no more and no less."""
    clock = ManualClock()
    bucket = TokenBucket(rate=10.0, capacity=30.0, clock=clock)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    clock.advance(0.9)
    assert bucket.take(10.0) == pytest.approx(0.1)
    clock.advance(0.1)
    assert bucket.take(10.0) == 0.0
    clock.advance(1000.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]


def test_what_is_larger_than_the_bucket_is_slow_and_not_impossible() -> None:
    """It is let through when the bucket is full, and everything after it waits for the debt."""
    clock = ManualClock()
    bucket = TokenBucket(rate=10.0, capacity=20.0, clock=clock)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(1.0) == pytest.approx(8.1)
    clock.advance(8.25)
    assert bucket.take(1.0) == 0.0
    assert bucket.take(100.0) == pytest.approx(1.85)


def test_a_quota_names_the_limit_that_is_used_up() -> None:
    """Calls and characters are counted apart; the refusal says when to come back."""
    clock = ManualClock()
    quota = Quota(TokenLimits(calls_per_second=1.0, characters_per_second=100.0, burst_seconds=2.0), clock=clock)
    quota.charge_call()
    quota.charge_call()
    with pytest.raises(QuotaError) as caught:
        quota.charge_call()
    assert (caught.value.limit, caught.value.retry_after_seconds) == ("calls", 1.0)
    quota.charge_characters(200)
    with pytest.raises(QuotaError) as caught:
        quota.charge_characters(50)
    assert (caught.value.limit, caught.value.retry_after_seconds) == ("characters", 0.5)


def test_no_limits_allow_everything() -> None:
    """A token without numbers is for identity alone."""
    quota = Quota(TokenLimits(), clock=ManualClock())
    for _ in range(1000):
        quota.charge_call()
        quota.charge_characters(10**9)


async def test_who_waits_for_characters_is_served_in_order() -> None:
    """Bulk items wait instead of being refused, and none overtakes another."""
    quota = Quota(TokenLimits(characters_per_second=10_000.0, burst_seconds=0.001))
    order: list[int] = []

    async def take(number: int) -> None:
        await quota.wait_for_characters(20)
        order.append(number)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(take(number))
    assert order == list(range(10))
