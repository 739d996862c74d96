"""The bundled model and a real OPUS-MT checkpoint: memory comes back, texts go through English, no call fails."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dragoman.v1 import translation_pb2 as pb
from service.bundle import Bundle
from service.client import AsyncTranslationClient
from service.config import Settings
from service.metrics import Metrics
from service.models.loading import ModelLoader
from service.models.registry import ModelRegistry
from service.translator import ModelCatalogue, TranslationRequest, Translator, TranslatorLimits
from tests.doubles.callers import Callers
from tests.doubles.platform_server import platform_server
from tests.integration.test_model_platform import swap
from tests.integration.test_soak import resident_bytes

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]
CYCLES = 20
RELOADS = 6
LETTER = "I love you. The house is small, and the garden is green.\n" * 4


async def test_memory_comes_back_after_every_unload(bundled_int8: Path, results: dict[str, object]) -> None:
    """Loaded, used and unloaded twenty times: what the 18 last took is given back but for a seventh of one."""
    catalogue = ModelCatalogue()
    metrics = Metrics(CollectorRegistry())
    settings = Settings(bundle=(bundled_int8,), workers=2)
    registry = ModelRegistry(ModelLoader(settings, metrics), catalogue, metrics)
    translator = Translator(catalogue, TranslatorLimits())
    request = TranslationRequest(contents=(LETTER,) * 4, source_language="en", target_language="de")
    loaded: list[int] = []
    unloaded: list[int] = []
    for _ in range(CYCLES):
        await registry.load(bundled_int8)
        await translator.translate(request, deadline=time.monotonic() + 120)
        loaded.append(resident_bytes())
        await registry.reconcile({})
        await registry.wait_drained()
        unloaded.append(resident_bytes())
    results["model_cycles"] = {"resident_loaded": loaded, "resident_unloaded": unloaded}
    assert unloaded[-1] - unloaded[1] < 0.15 * (loaded[1] - unloaded[1])


async def test_chinese_becomes_german_through_english(
    bundled_int8: Path, opus_bundles: dict[str, Path], test_data: Path, tmp_path: Path, results: dict[str, object]
) -> None:
    """Each text is what both models give one after the other, and the response names them and the language between."""
    (tmp_path / "en-defres").symlink_to(bundled_int8)
    (tmp_path / "opus-mt-zh-en").symlink_to(opus_bundles["int8"])
    texts = gzip.decompress((test_data / "data" / "flores" / "dev.zh.gz").read_bytes()).decode().splitlines()[:20]
    async with platform_server(tmp_path) as server, server.client() as client:
        through = await client.translate(texts, source="zh", target="de", timeout_seconds=120)
        assert list(through.pivot_language_codes) == ["en"]
        assert [each.model for each in through.models] == ["opus-mt-zh-en", "en-defres"]
        english = await client.translate(texts, source="zh", target="en", timeout_seconds=120)
        assert list(english.pivot_language_codes) == []
        sentences = sum(len(translation.sentences) for translation in through.translations)
        for first, joined in zip(english.translations, through.translations, strict=True):
            assert joined.text == await by_sentences(client, first.text, [s.target_span for s in first.sentences])
    results["pivot_zh_en_de"] = {"texts": len(texts), "sentences": sentences, "differences": 0}


async def by_sentences(client: AsyncTranslationClient, text: str, spans: Sequence[pb.Span]) -> str:
    """The German of an English text whose sentences stand at `spans`, translated one by one."""
    parts = [text[span.start : span.end] for span in spans]
    answer = await client.translate(parts, source="en", target="de", timeout_seconds=120)
    return " ".join(translation.text for translation in answer.translations)


async def test_a_rolling_reload_under_load_fails_no_call(
    bundled_fp32: Path, bundled_int8: Path, tmp_path: Path, results: dict[str, object]
) -> None:
    """The bundled model's versions take turns while unary, streaming and bulk callers keep the service busy."""
    versions = {path: Bundle.load(path).manifest.version for path in (bundled_fp32, bundled_int8)}
    link = tmp_path / "en-defres"
    link.symlink_to(bundled_fp32)
    async with platform_server(tmp_path, options=["--cache-mib", "0", "--bundle-poll-seconds", "0.5"]) as server:
        async with Callers(server.address, contents=[LETTER], source="en", target="de") as callers:
            for number in range(RELOADS):
                path = (bundled_int8, bundled_fp32)[number % 2]
                await callers.until_more(20)
                swap(link, path)
                await server.follow(versions[path])
                await callers.until_answered_by(versions[path])
            await callers.until_more(20)
        results["rolling_reload"] = {
            "reloads": RELOADS,
            "calls_answered": callers.count,
            "calls_failed": len(callers.failures),
        }
        assert callers.failures == []
        assert callers.versions == set(versions.values())
        assert all(len(texts) == 1 for texts in callers.texts.values())
