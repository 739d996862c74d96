"""Memory is planned before it is taken, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import Bundle
from service.errors import ConfigError
from service.runtime import MemoryBudget, MemoryPlan, RuntimeSettings, load_runners, memory_plan


def test_the_plan_is_what_the_runners_take(tiny_bundle: Path) -> None:
    """Bytes of the caches, to the last one, for every worker."""
    bundle = Bundle.load(tiny_bundle)
    settings = RuntimeSettings(workers=2, row_slots=6, max_source_tokens=20, max_output_tokens=24)
    plan = memory_plan(bundle, settings)
    runners = load_runners(bundle, settings)
    taken = [value for each in runners for value in vars(each).values() if isinstance(value, np.ndarray)]
    caches = sum(array.nbytes for array in taken if array.ndim == 5)
    assert plan.self_caches + plan.cross_caches == caches
    assert plan.weights >= (tiny_bundle / "weights.bin").stat().st_size


def test_a_decoder_for_a_lone_worker_is_planned_for(tiny_bundle: Path) -> None:
    """Its weights are in memory once more; the caches belong to the workers, whichever decoder fills them."""
    bundle = Bundle.load(tiny_bundle)
    usual = memory_plan(bundle, RuntimeSettings(workers=2))
    lone = memory_plan(bundle, RuntimeSettings(workers=2, lone_threads=2))
    assert lone.weights == 2 * usual.weights
    assert lone.total - lone.weights == usual.total - usual.weights


def test_models_share_one_budget() -> None:
    """The second model that does not fit any more is named, with what to turn down."""
    plan = MemoryPlan(weights=2**20, self_caches=2**20, cross_caches=2**20)
    budget = MemoryBudget(5 * 2**20)
    budget.spend(plan, model="one")
    with pytest.raises(ConfigError, match=r"model two plans for 3 MiB.*limit is 5 MiB"):
        budget.spend(plan, model="two")
