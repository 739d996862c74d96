"""On real graphs, fp32 and int8, an answer is bit-equal alone and in any company, slot and load."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import quantize_dynamic

from service.bundle import Bundle
from service.engine import DecodingOptions, Engine, ModelRunner, Priority
from service.runtime import RuntimeSettings, load_runners
from service.tokenizer import Tokenizer
from tests.doubles.schedules import Alone, Arrival, Source, arrivals, differences, run_schedule

LONGEST = 48


def runners(bundle: Bundle, *, workers: int, rows: int, threads: int = 1, lone_threads: int = 1) -> list[ModelRunner]:
    """Runners of their own, with short slots."""
    return load_runners(
        bundle,
        RuntimeSettings(
            workers=workers,
            threads_per_worker=threads,
            lone_threads=lone_threads,
            row_slots=rows,
            max_source_tokens=64,
            max_output_tokens=LONGEST,
        ),
    )


def random_sources(bundle: Bundle) -> st.SearchStrategy[Source]:
    """Any ids of the vocabulary, EOS last."""
    last = bundle.manifest.dimensions.source_vocabulary_size - 1
    ids = st.lists(st.integers(2, last), min_size=0, max_size=30)
    return ids.map(lambda each: (*each, bundle.manifest.special_ids.eos))


def check(bundle: Bundle, sources: st.SearchStrategy[Source], *, schedules: int, longest: int) -> int:
    """Run random schedules through engines whose memory is never cleaned; returns how many there were.

    One has a single worker. The second worker of the other gets what the first has no room for, so that the steps of
    both change between the usual decoder and that of a lone worker.
    """
    alone = Alone(*runners(bundle, workers=1, rows=8))
    pair = runners(bundle, workers=2, rows=6, lone_threads=2)
    engines = [Engine(runners(bundle, workers=1, rows=14, threads=2)), Engine(pair)]
    ran = 0

    @settings(max_examples=schedules, deadline=None)
    @given(arrivals(sources, longest=longest))
    def every_schedule(schedule: list[Arrival]) -> None:
        nonlocal ran
        ran += 1
        for engine in engines:
            assert differences(schedule, run_schedule(engine, schedule), alone) == []

    every_schedule()
    assert {shape.lone for each in pair for shape in vars(each)["_bindings"]} == {False, True}
    return ran


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_do_not_depend_on_company(precision: str, request: pytest.FixtureRequest) -> None:
    """Random arrivals, searches, classes and cancellations; ids and every token's log-probability are compared."""
    bundle = Bundle.load(request.getfixturevalue("tiny_bundle" if precision == "fp32" else "tiny_int8_bundle"))
    check(bundle, random_sources(bundle), schedules=60, longest=16)


def test_a_scale_over_the_whole_batch_is_found_out(tiny_bundle: Path, tmp_path: Path) -> None:
    """Put per-tensor dynamic quantization back, and neighbours change each other: the check above goes red."""
    original = Bundle.load(tiny_bundle)
    shutil.copytree(tiny_bundle, tmp_path / "dynamic")
    dynamic = Bundle(directory=tmp_path / "dynamic", manifest=original.manifest)
    for path in (dynamic.encoder_path, dynamic.decoder_path):
        quantize_dynamic(path, path, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
    alone = Alone(*runners(dynamic, workers=1, rows=8))
    engine = Engine(runners(dynamic, workers=1, rows=14))
    eos = original.manifest.special_ids.eos
    schedule = [
        Arrival((token, token + 9, token + 3, eos), DecodingOptions(max_output_tokens=12), 0, None, Priority.BULK)
        for token in range(5, 45, 5)
    ]
    assert differences(schedule, run_schedule(engine, schedule), alone)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_thousand_schedules_change_nothing(
    precision: str, request: pytest.FixtureRequest, results: dict[str, object]
) -> None:
    """The same at length, on the small model in both precisions."""
    bundle = Bundle.load(request.getfixturevalue("tiny_bundle" if precision == "fp32" else "tiny_int8_bundle"))
    ran = check(bundle, random_sources(bundle), schedules=1000, longest=24)
    results[f"batch_invariance_{precision}"] = {"schedules": ran, "differences": 0}


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_real_model_answers_the_same_in_any_company(
    precision: str, test_data: Path, opus_bundles: dict[str, Path], results: dict[str, object]
) -> None:
    """The OPUS-MT checkpoint on held-out sentences."""
    bundle = Bundle.load(opus_bundles[precision])
    tokenizer = Tokenizer.load(bundle.directory)
    with gzip.open(test_data / "data" / "flores" / "dev.zh.gz", "rt", encoding="utf-8") as lines:
        encoded = [tokenizer.encode(line.strip()).ids for line in lines]
    sources = st.sampled_from([ids for ids in encoded if len(ids) <= 40])
    ran = check(bundle, sources, schedules=int(os.environ.get("DRAGOMAN_SCHEDULES", "60")), longest=24)
    results[f"batch_invariance_opus_{precision}"] = {"schedules": ran, "differences": 0}
