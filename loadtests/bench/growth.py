"""`python -m loadtests.bench.growth`: how cost grows with rows in a step, with source length, and with a document."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from loadtests.bench.processor import hardware
from service.bundle import Bundle
from service.engine import Batch, DecodingOptions, Engine, EngineLimits, ModelRunner, Priority
from service.runtime import RuntimeSettings, load_runners

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SOURCES = (5, 10, 20, 30, 50, 80, 120, 180, 250, 350, 500)
DOCUMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SOURCE_TOKENS, PAST_TOKENS, ANSWER_TOKENS = 30, 14, 16
SENTENCE_SLOTS = 64
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds by size, and the smallest of `per_unit`: what one more unit costs where it costs least."""

    name: str
    unit: str
    sizes: Sequence[int]
    seconds: Sequence[float]

    @property
    def relative(self) -> list[float]:
        """Cost of one unit at each size, over the cheapest."""
        each = [seconds / size for size, seconds in zip(self.sizes, self.seconds, strict=True)]
        return [cost / min(each) for cost in each]


def random_sources(runner: ModelRunner, count: int, length: int) -> list[Ids]:
    """Sentences of random ids, EOS last."""
    generator, limits = np.random.default_rng(count * length), runner.limits
    ids = generator.integers(10, limits.source_vocabulary_size - 1, (count, length)).astype(np.int32)
    ids[:, -1] = limits.eos_id
    return list(ids)


def taken(work: Callable[[], object], *, rounds: int) -> float:
    """Median seconds of some rounds, after one that does not count."""
    work()
    seconds: list[float] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def step_of(runner: ModelRunner, rows: int) -> Callable[[], object]:
    """A greedy step over `rows` rows in the middle of their answers."""
    places = np.arange(rows)
    pad = np.stack([places, np.full(rows, runner.limits.pad_id)], axis=1).astype(np.int64)
    batch = Batch(
        last_tokens=np.full(rows, 100, np.int32),
        past_lengths=np.full(rows, PAST_TOKENS, np.int32),
        sentence_slots=places.astype(np.int32),
        bans=pad,
        best=1,
        full_rows=False,
    )
    return lambda: runner.decode_step(batch)


def runner_of(bundle: Bundle, *, rows: int, sources: int) -> ModelRunner:
    """One worker of one thread."""
    settings = RuntimeSettings(row_slots=rows, max_source_tokens=sources, max_output_tokens=64)
    return load_runners(bundle, settings)[0]


def rows_curve(bundle: Bundle, *, rounds: int) -> Curve:
    """A decode step over 1 to 256 rows."""
    runner = runner_of(bundle, rows=max(ROWS), sources=64)
    for begin in range(0, max(ROWS), 32):
        slots = list(range(begin, begin + 32))
        runner.encode(random_sources(runner, 32, SOURCE_TOKENS), slots, [1] * 32)
    return Curve("decode step", "row", ROWS, [taken(step_of(runner, rows), rounds=rounds) for rows in ROWS])


def source_curves(bundle: Bundle, *, rounds: int) -> Iterator[Curve]:
    """The encoder, and a decode step of one row, over a source of 5 to 500 tokens."""
    longest = bundle.manifest.max_source_tokens
    sizes = [size for size in SOURCES if size <= longest]
    runner = runner_of(bundle, rows=1, sources=max(sizes))
    encoding: list[float] = []
    stepping: list[float] = []
    for size in sizes:
        sources = random_sources(runner, 1, size)

        def encode(sources: list[Ids] = sources) -> None:
            runner.release(0)
            runner.encode(sources, [0], [1])

        encoding.append(taken(encode, rounds=rounds))
        stepping.append(taken(step_of(runner, 1), rounds=rounds))
    yield Curve("encoder", "source token", sizes, encoding)
    yield Curve("step of one row", "source token", sizes, stepping)


def documents_curve(bundle: Bundle) -> Curve:
    """Documents of 1 to 1,000 sentences, all submitted at once, one worker."""
    runner = runner_of(bundle, rows=SENTENCE_SLOTS, sources=64)
    engine = Engine([runner], limits=EngineLimits(max_waiting_tokens=10**6))
    engine.start()
    options = DecodingOptions(max_output_tokens=ANSWER_TOKENS, min_output_tokens=ANSWER_TOKENS)

    def translate(count: int) -> None:
        sources = random_sources(runner, count, SOURCE_TOKENS)
        tickets = [engine.submit(ids.tolist(), options, priority=Priority.BULK) for ids in sources]
        for ticket in tickets:
            ticket.future.result()

    translate(SENTENCE_SLOTS)
    seconds = [taken(lambda count=count: translate(count), rounds=1) for count in DOCUMENTS]  # type: ignore[misc]
    engine.shutdown(grace_seconds=1.0)
    return Curve("document", "sentence", DOCUMENTS, seconds)


def write_picture(curves: Sequence[Curve], path: Path) -> None:
    """A panel for each curve: the cost of one unit over the cheapest, by size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 3.4), layout="constrained")
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        panel.plot(curve.sizes, curve.relative, marker="o", markersize=3)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(f"{curve.name}: cost of a {curve.unit}", fontsize=9)
        panel.set_xlabel(f"{curve.unit}s")
        panel.set_ylabel("times the cheapest")
        panel.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)


def as_json(curves: Sequence[Curve]) -> list[Mapping[str, object]]:
    """What is kept of a run: relative costs, as seconds move with the machine."""
    fields = [asdict(curve) | {"relative": [round(cost, 3) for cost in curve.relative]} for curve in curves]
    return [{name: value for name, value in each.items() if name != "seconds"} for each in fields]


def main() -> None:
    """Measure, then write the JSON and the picture."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.growth", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what runs")
    add("--rounds", type=int, default=9, help="rounds of a step or an encoder run (%(default)s)")
    add("--output", type=Path, default=Path("build/bench"), metavar="DIR", help="for JSON and PNG (%(default)s)")
    arguments = parser.parse_args()
    bundle, rounds = Bundle.load(arguments.bundle), arguments.rounds
    curves = [rows_curve(bundle, rounds=rounds), *source_curves(bundle, rounds=rounds), documents_curve(bundle)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{datetime.now(UTC):%Y-%m-%d}-growth"
    facts = {"bundle": f"{bundle.manifest.model_id} {bundle.manifest.version}", "hardware": hardware()}
    path.with_suffix(".json").write_text(json.dumps(facts | {"curves": as_json(curves)}, indent=1) + "\n", "utf-8")
    write_picture(curves, path.with_suffix(".png"))
    for curve in curves:
        pairs = (f"{size}: {cost:.2f}" for size, cost in zip(curve.sizes, curve.relative, strict=True))
        print(f"{curve.name}, cost of a {curve.unit} over the cheapest: {', '.join(pairs)}")


if __name__ == "__main__":
    main()
