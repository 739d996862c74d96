"""Scenarios that differ in who calls: short and long texts, ways to decode, slow and vanishing callers."""

from __future__ import annotations

import asyncio
import time

from loadtests.generated_corpus import DOCUMENT, LONG, SHORT, generated_texts
from loadtests.metrics_page import read_metrics
from loadtests.request import GREEDY, Kind, Part
from loadtests.scenarios.subject import ScenarioResult, Subject
from loadtests.target import VANISHED
from loadtests.thresholds import Threshold, ratio

TEXTS = 500
LEFT_BEHIND = ("dragoman_requests_in_flight", "dragoman_row_slots_used", "dragoman_sentence_slots_used")
SETTLE_SECONDS = 10.0


async def lengths(subject: Subject) -> ScenarioResult:
    """Sentences of a few words, of parliament's length, and documents: the short do not wait for the long."""
    classes = (("short", 0.7, SHORT), ("long", 0.25, LONG), ("document", 0.05, DOCUMENT))
    parts = [
        Part(weight=weight, kind=Kind(name=name), texts=generated_texts(each, count=TEXTS, seed=subject.seed))
        for name, weight, each in classes
    ]
    phases = await subject.run([subject.warm_up(load=0.4), subject.phase("lengths", load=0.4)], parts=parts)
    medians = {name: each["p50"] for name, each in phases[0].summary.latency_by_kind.items()}
    short = ratio(medians.get("short"), medians.get("long"))
    thresholds = [
        Threshold(name="lengths: p50 of short over long", value=short, most=0.8),
        Threshold(name="lengths: answered", value=phases[0].summary.answered_share, least=0.95),
    ]
    return ScenarioResult(name="lengths", phases=phases, thresholds=thresholds)


async def options(subject: Subject) -> ScenarioResult:
    """Greedy calls, beam search and streams in one batch: a stream's first text comes long before an answer's end."""
    kinds = ((0.5, GREEDY), (0.25, Kind(name="beam 4", beam_size=4)), (0.25, Kind(name="stream", streaming=True)))
    parts = [Part(weight=weight, kind=kind, texts=subject.texts) for weight, kind in kinds]
    phases = await subject.run([subject.warm_up(load=0.25), subject.phase("options", load=0.25)], parts=parts)
    summary = phases[0].summary
    first = ratio(
        (summary.first_text_milliseconds or {}).get("p50"), summary.latency_by_kind.get("stream", {}).get("p50")
    )
    thresholds = [
        Threshold(name="options: answered", value=summary.answered_share, least=0.95),
        Threshold(name="options: first text over the whole, streams", value=first, most=0.8),
    ]
    return ScenarioResult(name="options", phases=phases, thresholds=thresholds)


async def vanishing(subject: Subject) -> ScenarioResult:
    """A third of the callers hang up midway and some read slowly: the others notice nothing, and nothing is left."""
    gone = Kind(name="vanishing", vanishes_after_seconds=subject.capacity.alone_seconds / 2)
    slow = Kind(name="slow reader", streaming=True, pause_seconds=subject.capacity.alone_seconds / 10)
    weighted = ((0.6, GREEDY), (0.3, gone), (0.1, slow))
    parts = [Part(weight=weight, kind=kind, texts=subject.texts) for weight, kind in weighted]
    phases = await subject.run(
        [subject.warm_up(load=0.4), subject.phase("vanishing", load=0.4)], parts=parts, patiently=True
    )
    statuses = phases[0].summary.statuses
    stayed = sum(statuses.values()) - statuses.get(VANISHED, 0)
    thresholds = [
        Threshold(name="vanishing: answered of those who stayed", value=ratio(statuses.get("OK", 0), stayed), least=1),
        Threshold(name="vanishing: callers who vanished", value=statuses.get(VANISHED, 0), least=1),
    ]
    if subject.metrics_url is not None:
        left = await _left_behind(subject.metrics_url)
        thresholds.append(Threshold(name="vanishing: calls, rows and sentences left behind", value=left, most=0))
    return ScenarioResult(name="vanishing", phases=phases, thresholds=thresholds)


async def _left_behind(metrics_url: str) -> float:
    """What the server still holds once it has had time to notice, by its own metrics."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        page = await asyncio.to_thread(read_metrics, metrics_url)
        left = sum(page.get(name, 0.0) for name in LEFT_BEHIND)
        if not left or time.monotonic() > end:
            return left
        await asyncio.sleep(0.1)
