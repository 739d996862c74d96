"""The plan of a run: which systems meet where, and what comes first."""

from loadtests.bench.cases import FLOAT32, INT8, OURS, REFERENCE, TRANSFORMERS, WHOLE, Plan
from loadtests.bench.settings import SEARCHES


def plan_of(*, peers: bool = True, sentences: int = 300) -> Plan:
    """Every search and level."""
    return Plan(
        searches=list(SEARCHES.values()),
        levels=(1, 8, 32, 64, WHOLE),
        sentences=sentences,
        rounds=3,
        slow_rounds=2,
        peers=peers,
    )


def test_every_search_and_level_meets_ctranslate2_int8() -> None:
    """The table that matters has no holes, and every one of its cases has all rounds."""
    met = [case for case in plan_of().cases() if case.systems == (OURS, INT8)]
    assert {(case.search.name, case.level) for case in met} == {
        (search, level) for search in SEARCHES for level in (1, 8, 32, 64, WHOLE)
    }
    assert all(case.rounds == 3 for case in met)


def test_the_bleu_to_meet_is_measured_first_for_every_search() -> None:
    """A run that is cut short can still say which of its rows count."""
    first = list(plan_of().cases())[: len(SEARCHES)]
    assert {case.search.name for case in first} == set(SEARCHES)
    assert all(REFERENCE in case.systems and case.sentences == 300 for case in first)


def test_the_slow_libraries_get_less_text() -> None:
    """transformers never gets the whole file, and ours takes its turns beside it on the same sentences."""
    slow = [case for case in plan_of().cases() if TRANSFORMERS in case.systems]
    assert slow
    assert all(case.systems[0] == OURS and case.sentences <= 96 for case in slow)


def test_without_peers_only_ours_runs() -> None:
    """A machine without the peers measures the engine alone."""
    assert {case.systems for case in plan_of(peers=False).cases()} == {(OURS,)}


def test_a_short_text_bounds_every_case() -> None:
    """No case asks for more sentences than there are, whatever may be in flight."""
    cases = list(plan_of(sentences=20).cases())
    assert all(case.sentences <= 20 for case in cases)
    assert FLOAT32 in {system for case in cases for system in case.systems}
