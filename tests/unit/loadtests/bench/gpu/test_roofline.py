"""What a step must at least move and compute, and how near to the card's ceilings it came."""

import pytest

from loadtests.bench.gpu.roofline import Ceilings, TimedRun
from loadtests.bench.gpu.steps import StepsAnswer
from loadtests.bench.gpu.traffic import GraphWork, Work
from service.bundle import Dimensions

CARD = Ceilings(bytes_per_second=1000.0, operations_per_second=8000.0, precision="float16", torch="0")


def graph_work(*, item_bytes: int = 2) -> GraphWork:
    """A model of two decoder layers whose products have round numbers of weights."""
    dimensions = Dimensions(
        vocabulary_size=100,
        padded_vocabulary_size=128,
        source_vocabulary_size=100,
        d_model=10,
        heads=2,
        head_size=5,
        encoder_layers=3,
        decoder_layers=2,
    )
    return GraphWork(dimensions=dimensions, item_bytes=item_bytes, encoder_weights=500, decoder_weights=1000)


def test_a_step_reads_its_weights_once_and_the_keys_of_every_row() -> None:
    """40 numbers of keys and values a position: 9 are read and one is written for each of 3 rows."""
    work = graph_work().step(rows=3, past_tokens=4, source_tokens=5)
    assert work.bytes == 2 * (1000 + 3 * 10 * 40)
    assert work.operations == 2 * 3 * 1000 + 2 * 3 * 10 * 40
    assert graph_work(item_bytes=4).step(rows=3, past_tokens=4, source_tokens=5).bytes == 2 * work.bytes


def test_the_encoder_computes_over_every_token() -> None:
    """Weights once for each token, attention for each pair of tokens in every encoder layer."""
    work = graph_work().encoding(sentences=2, source_tokens=7)
    assert work.bytes == 2 * (500 + 14 * 40)
    assert work.operations == 2 * 14 * 500 + 4 * 14 * 7 * 3 * 10


def test_the_least_time_is_that_of_the_nearer_ceiling() -> None:
    """Left of the ridge bytes count, right of it operations do, and the roof meets there."""
    assert CARD.least_seconds(Work(bytes=500, operations=100)) == 0.5
    assert CARD.least_seconds(Work(bytes=500, operations=16000)) == 2.0
    assert (CARD.reachable(2.0), CARD.reachable(8.0), CARD.reachable(80.0)) == (2000.0, 8000.0, 8000.0)


def test_a_run_has_its_rates_and_its_part_of_what_is_possible() -> None:
    """A run on the roof attains 1."""
    run = TimedRun(graph="decoder", mode="fast", rows=4, work=Work(bytes=500, operations=2000), seconds=2.0)
    assert (run.bytes_per_second, run.operations_per_second, run.work.intensity) == (250.0, 1000.0, 4.0)
    assert run.attained(CARD) == pytest.approx(0.25)


def test_timed_runs_survive_the_pipe() -> None:
    """What the program prints is what its caller reads."""
    run = TimedRun(graph="decoder", mode="fast", rows=4, work=Work(bytes=500, operations=2000), seconds=2.0)
    answer = StepsAnswer(runs=[run], profiles={})
    assert StepsAnswer.from_line(answer.to_line()) == answer
