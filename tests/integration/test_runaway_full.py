"""A real model's ordinary answers are not taken for loops, nor for outputs without an end."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.config import Settings
from service.metrics import Metrics
from service.models.loading import ModelLoader
from service.models.registry import ModelRegistry
from service.translator import ModelCatalogue, TranslationOptions, TranslationRequest, Translator, TranslatorLimits

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]
MOST_FALSE_ALARMS = 5


@pytest.mark.parametrize("beam_size", [1, 4])
async def test_ordinary_sentences_are_not_decoded_again(
    opus_bundles: dict[str, Path], test_data: Path, beam_size: int, results: dict[str, object]
) -> None:
    """Of the 997 FLORES development sentences at most five, greedily and with beams of four."""
    catalogue, metrics = ModelCatalogue(), Metrics(CollectorRegistry())
    bundle = opus_bundles["int8"]
    registry = ModelRegistry(ModelLoader(Settings(bundle=(bundle,)), metrics), catalogue, metrics)
    await registry.load(bundle)
    texts = gzip.decompress((test_data / "data" / "flores" / "dev.zh.gz").read_bytes()).decode().splitlines()
    request = TranslationRequest(
        contents=tuple(texts),
        source_language="zh",
        target_language="en",
        options=TranslationOptions(beam_size=beam_size),
    )
    answer = await Translator(catalogue, TranslatorLimits()).translate(request, deadline=None)
    await registry.reconcile({})
    await registry.wait_drained()
    alarms = [row for row, translation in enumerate(answer.translations) if translation.fallback_count]
    name = f"opus-mt-zh-en int8, FLORES dev sentences decoded again, beam {beam_size}"
    results[name] = {"sentences": len(texts), "decoded_again": alarms}
    assert len(texts) == 997
    assert len(alarms) <= MOST_FALSE_ALARMS
