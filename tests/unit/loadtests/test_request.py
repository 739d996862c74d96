"""Requests are drawn by weight, and can be repeated."""

from collections import Counter
from itertools import islice

from loadtests.request import GREEDY, Kind, Part, draw_requests

BEAM = Kind(name="beam", beam_size=4)
PARTS = (Part(weight=3.0, kind=GREEDY, texts=("a", "b")), Part(weight=1.0, kind=BEAM, texts=("c",)))


def test_kinds_come_by_their_weights_with_their_own_texts() -> None:
    """Three greedy calls for each with beams, and no part sends another's texts."""
    drawn = list(islice(draw_requests(PARTS, seed=1), 4000))
    kinds = Counter(request.kind.name for request in drawn)
    assert 2800 < kinds["greedy"] < 3200
    assert {request.text for request in drawn if request.kind is BEAM} == {"c"}
    assert {request.text for request in drawn if request.kind is GREEDY} == {"a", "b"}


def test_equal_seeds_give_equal_requests() -> None:
    """A run can be repeated call by call."""
    first, second, other = (list(islice(draw_requests(PARTS, seed=seed), 50)) for seed in (1, 1, 2))
    assert first == second != other
