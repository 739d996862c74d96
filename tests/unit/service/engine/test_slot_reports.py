"""What is said of slots in use is true when a worker falls idle, whatever emptied its batch."""

import pytest

from service.engine import DecodingOptions, Engine, SilentObserver
from service.errors import CancelledError
from tests.doubles.fake_runner import FakeRunner


class SlotWatch(SilentObserver):
    """Keeps the last report."""

    def __init__(self) -> None:
        self.used = (-1, -1)

    def slots(self, worker: int, rows: int, sentences: int) -> None:
        """Rows and sentences in use."""
        self.used = (rows, sentences)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_last_caller_to_leave_leaves_no_slot_in_use(beam_size: int) -> None:
    """When all that ran was cancelled, the metrics do not go on showing its rows."""
    watch = SlotWatch()
    engine = Engine([FakeRunner()], observer=watch)
    ticket = engine.submit([5, 6, 7, 0], DecodingOptions(beam_size=beam_size))
    engine.step()
    assert watch.used == (beam_size, 1)
    ticket.cancel()
    engine.step()
    with pytest.raises(CancelledError):
        ticket.future.result(0)
    assert watch.used == (0, 0)
