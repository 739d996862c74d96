"""A profile of ONNX Runtime is summed up: kernels in a run, busy time and gaps."""

import json
from pathlib import Path

import pytest

from loadtests.bench.gpu.profiles import Event, read_profile, summary
from service.errors import DataError


def run_at(begin: int, length: int) -> Event:
    """A whole run of a graph."""
    return Event(cat="Session", name="model_run", ts=begin, dur=length, args={})


def node(begin: int, length: int, operator: str, provider: str = "CUDAExecutionProvider") -> Event:
    """A node as the host sees it."""
    name = f"{operator}_1_kernel_time"
    return Event(cat="Node", name=name, ts=begin, dur=length, args={"op_name": operator, "provider": provider})


def kernel(begin: int, length: int, operator: str) -> Event:
    """What the GPU did for a node."""
    args = {"op_name": operator, "stream": "7"} if operator else {"stream": "7"}
    return Event(cat="Kernel", name="ampere_gemm", ts=begin, dur=length, args=args)


def gpu_run(begin: int) -> list[Event]:
    """100 us: a copy and two kernels that overlap, one after a gap; busy for 40 us in two stretches."""
    return [
        run_at(begin, 100),
        Event(cat="Session", name="SequentialExecutor::Execute", ts=begin, dur=99, args={}),
        node(begin + 2, 3, "MatMul"),
        Event(cat="Node", name="MatMul_1_fence_before", ts=begin + 1, dur=1, args={"op_name": "MatMul"}),
        node(begin + 6, 2, "Gather", provider="CPUExecutionProvider"),
        node(begin + 9, 2, "MemcpyFromHost"),
        kernel(begin + 10, 20, "MatMul"),
        kernel(begin + 20, 20, "MatMul"),
        kernel(begin + 60, 10, "Softmax"),
    ]


def test_kernels_and_gaps_of_a_gpu_run() -> None:
    """Overlapping kernels are busy time once; gaps reach from the run's beginning to its end."""
    events = [event for begin in (0, 1000, 2000) for event in gpu_run(begin)]
    found = summary(events, skipped=1)
    assert (found.runs, found.nodes, found.kernels, found.copies) == (2, 3, 3, 1)
    assert found.nodes_by_provider == {"CUDAExecutionProvider": 2, "CPUExecutionProvider": 1}
    assert found.run_seconds == pytest.approx(100e-6)
    assert found.busy_seconds == pytest.approx(40e-6)
    assert found.gaps == 3
    assert found.gap_seconds == pytest.approx(60e-6)
    assert found.longest_gap_seconds == pytest.approx(30e-6)
    assert found.operators == {"MatMul": 0.8, "Softmax": 0.2}


def test_medians_are_over_runs() -> None:
    """One slow run does not move what is reported."""
    events = [*gpu_run(0), *gpu_run(1000), run_at(2000, 5000), kernel(2100, 4000, "MatMul")]
    assert summary(events).run_seconds == pytest.approx(100e-6)
    assert summary(events).kernels == 3


def test_without_kernels_the_nodes_stand_for_them() -> None:
    """A build that writes no kernels says so by None, never by 0."""
    found = summary([run_at(0, 50), node(0, 20, "MatMul"), node(30, 20, "Add")])
    assert found.kernels is None
    assert found.busy_seconds == pytest.approx(40e-6)
    assert found.gaps == 1


def test_a_kernel_of_no_node_goes_by_its_own_name() -> None:
    """Nothing that took time is lost from the shares."""
    assert summary([run_at(0, 50), kernel(0, 20, "")]).operators == {"ampere_gemm": 1.0}


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    """No runs, no JSON, no list: one clear error each."""
    with pytest.raises(DataError, match="without runs"):
        summary([node(0, 20, "MatMul")])
    with pytest.raises(DataError, match="beyond the first 1"):
        summary(gpu_run(0), skipped=1)
    for content in ("{", json.dumps({"traceEvents": []})):
        (tmp_path / "profile").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="not a profile"):
            read_profile(tmp_path / "profile")
