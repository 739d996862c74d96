"""`python -m loadtests.bench.gpu.steps`: times runs of the two graphs on a device and profiles decode steps.

Prints one JSON object. It has a process of its own, so that nothing else runs on the card meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime as ort

from loadtests.bench.gpu.device import add_device, device_runner
from loadtests.bench.gpu.profiles import ProfileSummary, read_profile, summary
from loadtests.bench.gpu.roofline import TimedRun
from loadtests.bench.gpu.traffic import GraphWork, Work
from loadtests.bench.growth import PAST_TOKENS, SOURCE_TOKENS, random_sources, step_of, taken
from service.bundle import Bundle
from service.engine import ModelRunner
from service.runtime import RuntimeSettings
from service.runtime.sessions import Sessions, open_sessions

_ENCODED_TOGETHER = 64
_WARM_RUNS = 5
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsAnswer:
    """What this program prints: timed runs, and profiles of decode steps by their rows."""

    runs: list[TimedRun]
    profiles: dict[int, ProfileSummary]

    def to_line(self) -> str:
        """The answer as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_line(line: str) -> StepsAnswer:
        """Read a line that `to_line` wrote."""
        fields = json.loads(line)
        return StepsAnswer(
            runs=[TimedRun(**run | {"work": Work(**run["work"])}) for run in fields["runs"]],
            profiles={int(rows): ProfileSummary(**each) for rows, each in fields["profiles"].items()},
        )


def filled(bundle: Bundle, sessions: Sessions, runtime: RuntimeSettings) -> ModelRunner:
    """A runner whose every row has a sentence."""
    runner = device_runner(bundle, sessions, runtime)
    for begin in range(0, runtime.row_slots, _ENCODED_TOGETHER):
        slots = list(range(begin, min(begin + _ENCODED_TOGETHER, runtime.row_slots)))
        runner.encode(random_sources(runner, len(slots), SOURCE_TOKENS), slots, [1] * len(slots))
    return runner


def step_times(
    bundle: Bundle, sessions: Sessions, runtime: RuntimeSettings, rows: Sequence[int], *, rounds: int
) -> list[TimedRun]:
    """Greedy decode steps over each number of rows, in memory that has just these rows."""
    work, times = GraphWork.of(bundle), []
    for count in rows:
        runner = filled(bundle, sessions, dataclasses.replace(runtime, row_slots=count))
        seconds = taken(step_of(runner, count), rounds=rounds)
        least = work.step(rows=count, past_tokens=PAST_TOKENS, source_tokens=SOURCE_TOKENS)
        times.append(TimedRun(graph="decoder", mode=runtime.mode, rows=count, work=least, seconds=seconds))
    return times


def encoder_times(
    bundle: Bundle, sessions: Sessions, runtime: RuntimeSettings, sentences: Sequence[int], *, rounds: int
) -> list[TimedRun]:
    """Encoding so many sentences together, their keys and values put in place."""
    work, times = GraphWork.of(bundle), []
    for count in sentences:
        runner = device_runner(bundle, sessions, dataclasses.replace(runtime, row_slots=count))
        sources, slots = random_sources(runner, count, SOURCE_TOKENS), list(range(count))

        def encode(runner: ModelRunner = runner, sources=sources, slots: list[int] = slots) -> None:  # type: ignore[no-untyped-def]
            for slot in slots:
                runner.release(slot)
            runner.encode(sources, slots, [1] * len(slots))

        least = work.encoding(sentences=count, source_tokens=SOURCE_TOKENS)
        seconds = taken(encode, rounds=rounds)
        times.append(TimedRun(graph="encoder", mode=runtime.mode, rows=count, work=least, seconds=seconds))
    return times


def profiled(
    bundle: Bundle, sessions: Sessions, runtime: RuntimeSettings, rows: int, *, rounds: int, folder: Path
) -> ProfileSummary:
    """Decode steps over `rows` rows in ONNX Runtime's profiler; its file stays in `folder`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = runtime.threads_per_worker, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / f"{runtime.mode}-{rows}")
    provider: tuple[str, dict[str, str]] = (_PROVIDERS[runtime.provider], {})
    if runtime.provider == "cuda":
        options.use_deterministic_compute = runtime.mode == "deterministic"
        provider = (provider[0], {"device_id": str(runtime.device_id)})
    decoder = ort.InferenceSession(bundle.decoder_path, options, providers=[provider])
    runner = filled(
        bundle, dataclasses.replace(sessions, decoder=decoder), dataclasses.replace(runtime, row_slots=rows)
    )
    step = step_of(runner, rows)
    for _ in range(_WARM_RUNS + rounds):
        step()
    return summary(read_profile(Path(decoder.end_profiling())), skipped=_WARM_RUNS)


def main() -> None:
    """Time and profile one bundle in one mode."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu.steps", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what runs")
    add("--mode", choices=("fast", "deterministic"), default="fast")
    add("--rows", type=int, nargs="+", default=[64], help="sizes of the steps, and of the encoder's runs (64)")
    add("--rounds", type=int, default=31, help="runs of each (%(default)s)")
    add("--profile-rows", type=int, nargs="*", default=[64], help="sizes to profile (64)")
    add("--profiles", type=Path, metavar="DIR", help="keep the profiles here, to be opened in Perfetto")
    add_device(parser)
    given = parser.parse_args()
    bundle, rounds = Bundle.load(given.bundle), given.rounds
    runtime = RuntimeSettings(provider=given.provider, mode=given.mode, device_id=given.device_id)
    sessions = open_sessions(bundle, runtime)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.profiles or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        runs = step_times(bundle, sessions, runtime, given.rows, rounds=rounds)
        runs += encoder_times(bundle, sessions, runtime, given.rows, rounds=rounds)
        profiles = {
            rows: profiled(bundle, sessions, runtime, rows, rounds=rounds, folder=folder) for rows in given.profile_rows
        }
    print(StepsAnswer(runs=runs, profiles=profiles).to_line())


if __name__ == "__main__":
    main()
