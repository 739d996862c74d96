"""A skip is a failure unless tests/SKIPS.md lists it and what it needs is really missing here."""

import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

SKIPS_FILE = Path(__file__).with_name("SKIPS.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedSkip:
    """One row of SKIPS.md: tests (a pattern of node ids) that may be skipped while ``needs`` is missing."""

    tests: str
    needs: str

    def allows(self, node_id: str, reason: str) -> bool:
        """Whether this row excuses the skip of ``node_id``, whose ``reason`` must name what is missing here."""
        named = self.needs.partition(":")[2] in reason
        return named and fnmatchcase(node_id, self.tests) and not is_present(self.needs)


def is_present(need: str) -> bool:
    """Whether ``need`` is met here: ``env:NAME`` (a variable is set) or ``program:NAME`` (a program is on the path)."""
    kind, _, name = need.partition(":")
    if kind == "env" and name:
        return bool(os.environ.get(name))
    if kind == "program" and name:
        return shutil.which(name) is not None
    raise pytest.UsageError(f"tests/SKIPS.md: {need!r} is neither env:NAME nor program:NAME")


def read_allowed_skips(text: str) -> tuple[AllowedSkip, ...]:
    """The rows of the Markdown table in ``text``: | `tests` | `needs` | why |."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            rows.append(AllowedSkip(tests=cells[0], needs=cells[1]))
    return tuple(rows)


class SkipPolicy:
    """The pytest plugin: turns each skip that no row allows into a failure."""

    def __init__(self, allowed: tuple[AllowedSkip, ...]) -> None:
        self._allowed = allowed

    def _refuse(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.outcome != "skipped" or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if any(row.allows(report.nodeid, reason) for row in self._allowed):
            return
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and tests/SKIPS.md does not allow that here ({reason})"

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Judge the skip of one test."""
        report = yield
        self._refuse(report)
        return report

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Judge the skip of a whole module."""
        report = yield
        self._refuse(report)
        return report


def pytest_configure(config: pytest.Config) -> None:
    """Register the policy with the rows of SKIPS.md."""
    config.pluginmanager.register(SkipPolicy(read_allowed_skips(SKIPS_FILE.read_text(encoding="utf-8"))), "skip-policy")
