"""The runner that keeps its memory on a device answers, on the device "cpu", as the CPU runner does, bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.assembly import contents_of
from exporter.export_options import ExportOptions
from exporter.packaging import write_bundle
from exporter.sources import Corrections, read_checkpoint
from exporter.study import Subject
from service import graph_names as names
from service.bundle import Alignment, Bundle, Head
from service.engine import Batch, Engine, ModelRunner, RowCopy, StepOutput
from service.errors import BundleError, ConfigError
from service.runtime import DeviceRunner, OnnxRunner, RuntimeSettings, load_runners, memory_plan, onnx_runner
from service.runtime.device_memory import CacheMemory, Device
from service.runtime.sessions import open_sessions
from service.runtime.settings import DecodingMode, Provider
from tests import gpu_smoke
from tests.doubles.schedules import Alone, Arrival, Source, arrivals, differences, run_schedule

CPU = Device(kind="cpu")
BEST_DEVICE: Provider = "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"
"""A GPU where ONNX Runtime has one."""
MODES: tuple[DecodingMode, ...] = ("fast", "deterministic")


def small(*, rows: int, mode: DecodingMode = "fast") -> RuntimeSettings:
    """Settings of a runner with short slots."""
    return RuntimeSettings(row_slots=rows, max_source_tokens=40, max_output_tokens=24, mode=mode)


def on_device(bundle: Bundle, *, rows: int, mode: DecodingMode = "fast", provider: Provider = "cpu") -> DeviceRunner:
    """The runner under test."""
    chosen = dataclasses.replace(small(rows=rows, mode=mode), provider=provider)
    return DeviceRunner(bundle, open_sessions(bundle, chosen), chosen, Device(kind=provider))


def on_cpu(bundle: Bundle, *, rows: int) -> OnnxRunner:
    """The runner it must equal."""
    return OnnxRunner(bundle, open_sessions(bundle, small(rows=rows)), small(rows=rows))


def random_sources(bundle: Bundle) -> st.SearchStrategy[Source]:
    """Any ids of the vocabulary, EOS last."""
    ids = st.lists(st.integers(2, bundle.manifest.dimensions.source_vocabulary_size - 1), max_size=30)
    return ids.map(lambda each: (*each, bundle.manifest.special_ids.eos))


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny model in fp32."""
    return Bundle.load(tiny_bundle)


@pytest.fixture(scope="module")
def half_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model in fp16, which ONNX Runtime's CPU provider runs through casts."""
    checkpoint, tokenizer = read_checkpoint(tiny_checkpoint, Corrections())
    subject = Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=tiny_checkpoint)
    contents = contents_of(subject, ExportOptions(precision="fp16", threads=1), None)
    return write_bundle(contents, tmp_path_factory.mktemp("half"))


@pytest.mark.parametrize("mode", MODES)
def test_answers_equal_the_cpu_runner(mode: DecodingMode, bundle: Bundle) -> None:
    """Random arrivals, beams, sampling, classes and cancellations, against each request alone on the CPU runner."""
    alone = Alone(on_cpu(bundle, rows=8))
    engine = Engine([on_device(bundle, rows=14, mode=mode)])

    @settings(max_examples=40, deadline=None)
    @given(arrivals(random_sources(bundle), longest=16))
    def every_schedule(schedule: list[Arrival]) -> None:
        assert differences(schedule, run_schedule(engine, schedule), alone) == []

    every_schedule()


@pytest.mark.parametrize(("mode", "provider"), [("fast", "cpu"), ("deterministic", BEST_DEVICE)])
def test_half_floats_answer_the_same_in_any_company(
    mode: DecodingMode, provider: Provider, half_bundle: Bundle
) -> None:
    """Caches of two bytes a number: an answer does not depend on its company; on a GPU this is deterministic mode's."""
    alone = Alone(on_device(half_bundle, rows=14, mode=mode, provider=provider))
    engine = Engine([on_device(half_bundle, rows=14, mode=mode, provider=provider)])

    @settings(max_examples=15, deadline=None)
    @given(arrivals(random_sources(half_bundle), longest=10))
    def every_schedule(schedule: list[Arrival]) -> None:
        assert differences(schedule, run_schedule(engine, schedule), alone) == []

    every_schedule()


def encode_all(runner: ModelRunner, count: int) -> None:
    """Sentences 0 to count-1 of different lengths in slots of the same number, one row each."""
    sources = [np.array([*range(5, 8 + slot), 0], np.int32) for slot in range(count)]
    runner.encode(sources, range(count), [1] * count)


def step(runner: ModelRunner, tokens: list[int], lengths: list[int]) -> StepOutput:
    """One step of rows that read the sentence slots of their own numbers; the result is a copy."""
    rows = len(tokens)
    output = runner.decode_step(
        Batch(
            last_tokens=np.array(tokens, np.int32),
            past_lengths=np.array(lengths, np.int32),
            sentence_slots=np.arange(rows, dtype=np.int32),
            bans=np.array([(row, runner.limits.pad_id) for row in range(rows)], np.int64),
            best=3,
            full_rows=True,
        )
    )
    assert output.log_probs is not None
    return dataclasses.replace(output, log_probs=output.log_probs.copy(), top_ids=output.top_ids.copy())


def log_probs(output: StepOutput) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The whole rows of a step."""
    assert output.log_probs is not None
    return output.log_probs


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_sit_out_keep_their_memory(mode: DecodingMode, bundle: Bundle) -> None:
    """Rows pause, or have just got what they hold from others, while padding runs over them: nothing of it is lost."""
    expected, found = on_cpu(bundle, rows=7), on_device(bundle, rows=7, mode=mode)
    outputs = []
    for runner in (expected, found):
        encode_all(runner, 6)
        seen = [log_probs(step(runner, [9 + turn] * 6, [turn] * 6)) for turn in range(4)]
        seen += [log_probs(step(runner, [30 + turn] * 3, [turn] * 3)) for turn in range(4, 7)]
        runner.copy_rows([RowCopy(source=5, target=6, begin=0, end=4), RowCopy(source=4, target=5, begin=0, end=4)])
        seen.append(log_probs(step(runner, [40] * 5, [7, 7, 7, 4, 4])))
        runner.copy_rows([RowCopy(source=6, target=5, begin=0, end=4), RowCopy(source=5, target=4, begin=0, end=4)])
        seen.append(log_probs(step(runner, [41], [8])))
        seen.append(log_probs(step(runner, [50] * 6, [9, 8, 8, 5, 4, 4])))
        outputs.append(seen)
    for ours, theirs in zip(outputs[1], outputs[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_full_row_that_sits_out_is_not_written_beyond_its_end(bundle: Bundle) -> None:
    """A row whose memory is full has no free position; padding then writes its last one, which nobody reads again."""
    runner = on_device(bundle, rows=4)
    encode_all(runner, 4)
    last = runner.limits.max_output_tokens - 1
    for turn in range(last + 1):
        step(runner, [9] * 4, [turn] * 4)
    before = log_probs(step(runner, [11], [3]))
    again = log_probs(step(runner, [11] * 3, [3] * 3))
    np.testing.assert_array_equal(again[0], before[0])


def test_bytes_are_those_really_moved(bundle: Bundle) -> None:
    """A copy counts the positions between its ends, keys and values of every layer; both runners agree."""
    copies = [RowCopy(source=0, target=1, begin=2, end=5), RowCopy(source=1, target=2, begin=0, end=4)]
    dimensions = bundle.manifest.dimensions
    expected = 7 * 2 * dimensions.decoder_layers * dimensions.d_model * 4
    assert on_device(bundle, rows=4).copy_rows(copies) == expected
    assert on_cpu(bundle, rows=4).copy_rows(copies) == expected


@pytest.mark.parametrize("shifted", [None, Head(layer=0, head=0)], ids=["one_head", "two_heads"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_alignments_equal_the_cpu_runner(lanes: int, shifted: Head | None, bundle: Bundle) -> None:
    """The keys of one head, or of two, are fetched from narrow and wide memory alike."""
    alignment = Alignment(layer=0, head=1, accuracy=0.5, shifted=shifted)
    aligned = Bundle(directory=bundle.directory, manifest=bundle.manifest.model_copy(update={"alignment": alignment}))
    chosen = small(rows=6)
    sessions = open_sessions(bundle, chosen)
    size = aligned.manifest.alignment_query_size
    assert size == bundle.manifest.dimensions.head_size * len(alignment.heads)
    queries = np.random.default_rng(0).normal(size=(4, size)).astype(np.float32)
    weights = []
    for runner in (OnnxRunner(aligned, sessions, chosen), DeviceRunner(aligned, sessions, chosen, CPU)):
        runner.encode([np.arange(3, 8, dtype=np.int32), np.arange(5, 14, dtype=np.int32)], [0, 1], [1, lanes])
        weights.append(runner.align(1, queries))
    assert weights[0].shape == (4, 9)
    np.testing.assert_array_equal(weights[1], weights[0])


@pytest.mark.parametrize("mode", MODES)
def test_the_plan_is_what_a_device_runner_takes(mode: DecodingMode, half_bundle: Bundle) -> None:
    """Bytes of the caches, to the last one."""
    runner = on_device(half_bundle, rows=5, mode=mode)
    memories = [value for value in vars(runner).values() if isinstance(value, CacheMemory)]
    taken = sum(memory.vectors * memory.vector_bytes for memory in memories if memory.places > 1)
    plan = memory_plan(half_bundle, small(rows=5, mode=mode))
    assert taken == plan.self_caches + plan.cross_caches
    assert plan.workspace == 0
    on_gpu = memory_plan(half_bundle, dataclasses.replace(small(rows=5, mode=mode), provider="cuda"))
    assert on_gpu.workspace > 0


def test_precision_and_provider_must_fit(bundle: Bundle, half_bundle: Bundle) -> None:
    """CUDA's attention takes half floats only and a CPU serves the others: one line says so before anything loads."""
    with pytest.raises(ConfigError, match=r"is fp32 and provider cuda takes fp16"):
        load_runners(bundle, dataclasses.replace(small(rows=4), provider="cuda"))
    with pytest.raises(ConfigError, match=r"is fp16 and provider cpu takes fp32 or int8"):
        load_runners(half_bundle, small(rows=4))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_a_cpu_is_refused(half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a GPU cannot be used ONNX Runtime opens the graph on the CPU and only warns; we refuse."""
    chosen = dataclasses.replace(small(rows=4), provider="cuda", device_id=99)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="cannot use cuda device 99 on this machine"):
        load_runners(half_bundle, chosen)


def test_a_bundle_without_the_copy_graph_is_refused(bundle: Bundle) -> None:
    """Bundles of before it existed serve on a CPU, and nowhere else."""
    graphs = bundle.manifest.graphs.model_copy(update={"copy_positions": None})
    older = Bundle(directory=bundle.directory, manifest=bundle.manifest.model_copy(update={"graphs": graphs}))
    assert len(load_runners(older, small(rows=4))) == 1
    with pytest.raises(BundleError, match="export it again"):
        on_device(older, rows=4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gpu_smoke_runs_on_a_cpu(
    precision: str, bundle: Bundle, half_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The very program that is meant for a GPU agrees with the CPU runner here, in both modes."""
    (tmp_path / "fp32").symlink_to(bundle.directory)
    (tmp_path / "fp16").symlink_to(half_bundle.directory)
    arguments = ["--device", "cpu", "--precision", precision, "--bundles", str(tmp_path)]
    assert gpu_smoke.main(arguments) == 0
    assert capsys.readouterr().out.count("agrees with fp32 on the CPU") == 2


def test_gpu_smoke_sees_a_runner_that_is_wrong(bundle: Bundle) -> None:
    """A runner that copies no rows is found out."""

    class Forgetful(DeviceRunner):
        def copy_rows(self, copies: object) -> int:
            """Copy nothing."""
            return 0

    chosen = small(rows=12)
    wrong = Forgetful(bundle, open_sessions(bundle, chosen), chosen, CPU)
    sources = [[7, 8, 9, 0], [11, 12, 0], [20, 0], [30, 31, 32, 33, 0]]
    results = gpu_smoke.compare(on_cpu(bundle, rows=12), wrong, sources, tolerance=1e-4)
    assert max(result.difference for result in results[: gpu_smoke.BRANCHES_AT]) == 0
    assert max(result.difference for result in results) > 1e-4


def test_gpu_smoke_says_when_there_is_no_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and an exit code of its own, so that nobody takes it for a pass."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert gpu_smoke.main([]) == gpu_smoke.NO_GPU
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failed_step_leaves_no_binding_to_memory_that_goes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bindings are kept by shape, and more bans than rows are bound from the batch's own array."""
    runner, bound = on_cpu(bundle, rows=2), []
    bind = onnx_runner._bind_input

    def note(binding: ort.IOBinding, name: str, array: npt.NDArray[Any]) -> None:
        bound.append((name, array))
        bind(binding, name, array)

    def fail(_: ort.IOBinding) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(onnx_runner, "_bind_input", note)
    monkeypatch.setattr(runner._sessions.decoder, "run_with_iobinding", fail)
    source = np.array([5, 6, bundle.manifest.special_ids.eos], np.int32)
    runner.encode([source], [0], [1])
    batch = Batch(
        last_tokens=np.array([runner.limits.start_id]),
        past_lengths=np.array([0], np.int32),
        sentence_slots=np.array([0]),
        bans=np.array([[0, 3], [0, 4]]),
        best=1,
        full_rows=False,
    )
    with pytest.raises(RuntimeError):
        runner.decode_step(batch)
    name, array = bound[-1]
    assert name == names.BANS
    assert np.shares_memory(array, runner._bans)
