"""The rule on skips: listed and really missing, or it is a failure."""

import pytest

from tests.skip_policy import AllowedSkip, SkipPolicy, is_present, read_allowed_skips

SKIPPING_TEST = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.skip("DRAGOMAN_TESTS_NEVER_SET is not set")
"""
SKIPPING_MODULE = """
import pytest

pytest.importorskip("a_module_that_does_not_exist")
"""
MISSING = "env:DRAGOMAN_TESTS_NEVER_SET"


def run(pytester: pytest.Pytester, source: str, *rows: AllowedSkip) -> tuple[int, int, int]:
    """How many tests of ``source`` passed, were skipped and failed under a policy of ``rows``."""
    pytester.makepyfile(source)
    passed, skipped, failed = pytester.inline_run("-p", "no:asyncio", plugins=[SkipPolicy(rows)]).listoutcomes()
    return len(passed), len(skipped), len(failed)


def test_an_unlisted_skip_fails(pytester: pytest.Pytester) -> None:
    """A skip that no row names is a failure."""
    assert run(pytester, SKIPPING_TEST) == (1, 0, 1)


def test_a_listed_skip_stays_a_skip(pytester: pytest.Pytester) -> None:
    """A row that names the test excuses it where what it needs is missing."""
    assert run(pytester, SKIPPING_TEST, AllowedSkip(tests="*::test_skips", needs=MISSING)) == (1, 1, 0)


def test_a_listed_skip_fails_where_its_need_is_met(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row excuses nothing on a machine that has what the test needs."""
    monkeypatch.setenv("DRAGOMAN_TESTS_NEVER_SET", "1")
    assert run(pytester, SKIPPING_TEST, AllowedSkip(tests="*::test_skips", needs=MISSING)) == (1, 0, 1)


def test_a_skip_must_name_what_is_missing(pytester: pytest.Pytester) -> None:
    """A row of another need does not excuse a skip that gives some other reason."""
    row = AllowedSkip(tests="*::test_skips", needs="program:a-program-nobody-has")
    assert run(pytester, SKIPPING_TEST, row) == (1, 0, 1)


def test_the_skip_of_a_whole_module_is_judged_too(pytester: pytest.Pytester) -> None:
    """A module that skips itself while it is collected does not slip through."""
    assert run(pytester, SKIPPING_MODULE)[2] == 1


def test_a_need_of_an_unknown_kind_is_refused() -> None:
    """A row whose need cannot be checked is an error, not a free pass."""
    with pytest.raises(pytest.UsageError, match="neither env:NAME nor program:NAME"):
        is_present("the moon")


def test_rows_are_read_from_the_table() -> None:
    """The table's head and rule are no rows; code marks are taken off."""
    text = "# Title\n\n| tests | needs | why |\n|---|---|---|\n| `tests/a.py::*` | `program:podman` | a reason |\n"
    assert read_allowed_skips(text) == (AllowedSkip(tests="tests/a.py::*", needs="program:podman"),)
