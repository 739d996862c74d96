"""A worker's steps say whether it is the only one with work."""

from __future__ import annotations

from functools import partial

from service.engine import Batch, DecodingOptions, Engine
from tests.doubles.fake_runner import FakeRunner, limits


def test_a_step_knows_whether_other_workers_have_sequences() -> None:
    """From the step after another one has begun until that one has none left."""
    seen: list[list[bool]] = [[], []]

    def note(steps: list[bool], batch: Batch) -> None:
        steps.append(batch.alone)

    engine = Engine([FakeRunner(limits(row_slots=1), on_step=partial(note, steps)) for steps in seen])
    engine.submit([5, 6, 7, 0], DecodingOptions(min_output_tokens=20))
    engine.step()
    engine.step()
    assert seen == [[True, True], []]
    engine.submit([8, 9, 0], DecodingOptions(max_output_tokens=5))
    while engine.step():
        pass
    together = len(seen[1])
    steps = len(seen[0])
    assert 0 < together < steps - 4
    assert seen[1] == [False] * together
    # The first worker's turn comes before the second's, so it learns of what that does one turn later.
    assert seen[0] == [True] * 3 + [False] * together + [True] * (steps - 3 - together)
