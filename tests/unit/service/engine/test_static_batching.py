"""The switch that turns continuous batching off, for comparison with what it brings."""

from service.engine import DecodingOptions, Engine, EngineLimits
from tests.doubles.fake_runner import FakeRunner

SOURCES = [[5, 6, 7, 0], [8, 9, 0], [10, 11, 12, 13, 0]]


def encoder_batches(*, static_batching: bool) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes of the encoder batches when two more sentences come while one runs, and what all were translated to."""
    runner = FakeRunner()
    engine = Engine([runner], limits=EngineLimits(static_batching=static_batching))
    tickets = [engine.submit(SOURCES[0], DecodingOptions())]
    engine.step()
    tickets += [engine.submit(source, DecodingOptions()) for source in SOURCES[1:]]
    engine.step()
    joined = list(runner.encoded)
    while engine.step():
        pass
    return joined, [ticket.future.result(0).hypotheses[0].ids for ticket in tickets]


def test_a_static_batch_takes_nobody_in_until_it_is_done() -> None:
    """Newcomers join at the next step, or with the switch only when none runs; what is translated does not change."""
    continuous, answers = encoder_batches(static_batching=False)
    static, same_answers = encoder_batches(static_batching=True)
    assert continuous == [1, 2]
    assert static == [1]
    assert same_answers == answers
