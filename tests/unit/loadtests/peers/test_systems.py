"""Every server runs with its best set-up, found by trying."""

from pathlib import Path

import pytest

from loadtests.peers.systems import CTRANSLATE2, OURS, STATIC, TRANSFORMERS, Models, Setup, best_setup

MODELS = Models(bundle=Path("b"), checkpoint=Path("c"), converted=Path("m"), python=Path("python"))


@pytest.mark.parametrize(
    ("system", "best"),
    [
        (CTRANSLATE2, Setup(workers=1, threads=2, size=128, wait_milliseconds=20.0)),
        (TRANSFORMERS, Setup(workers=1, threads=2, size=64)),
        (OURS, Setup(workers=2, threads=1, size=16)),
    ],
)
async def test_the_best_setup_is_found_layout_by_size_by_wait(system: str, best: Setup) -> None:
    """Whatever is nearest to the best in each respect wins, and nothing is tried twice."""
    tried: list[Setup] = []

    async def judge(setup: Setup) -> float:
        tried.append(setup)
        far = abs(setup.size - best.size) / 8 + abs(setup.wait_milliseconds - best.wait_milliseconds) / 5
        return -far - 10 * (setup.workers != best.workers)

    assert await best_setup(system, beam_size=1, judge=judge) == best
    assert len(set(tried)) == len(tried)
    two, one = tried[:2]
    assert (two.workers, one.workers) == (2, 1)
    assert one.size == 2 * two.size  # else the layouts would differ in how much they hold, too


def test_commands_say_what_the_setup_says() -> None:
    """Ours differs from the static one by the switch alone; no server answers from a cache."""
    setup = Setup(workers=1, threads=2, size=16)
    ours, static = (MODELS.command(system, setup) for system in (OURS, STATIC))
    assert static == [*ours, "--static-batching"]
    words = [str(word) for word in ours]
    assert words[words.index("--cache-mib") + 1] == "0"
    assert words[words.index("--row-slots") + 1] == "16"
    peer = [str(word) for word in MODELS.command(CTRANSLATE2, setup)]
    assert peer[peer.index("--batch-size") + 1] == "16"
    assert peer[peer.index("--workers") + 1] == "1"
