"""Sessions of one bundle share the cores: none may hold them while another runs."""

from __future__ import annotations

from pathlib import Path

from service.bundle import Bundle
from service.runtime import RuntimeSettings
from service.runtime.sessions import open_sessions

LONGEST_PAUSE_MICROSECONDS = 1000


def test_threads_that_wait_give_up_their_core(tiny_bundle: Path) -> None:
    """By default threads spin for 40 ms and more after a run, on cores that the other graph's threads want by then."""
    sessions = open_sessions(Bundle.load(tiny_bundle), RuntimeSettings(threads_per_worker=2))
    for session in (sessions.encoder, sessions.decoder):
        spin = session.get_session_options().get_session_config_entry("session.intra_op.spin_duration_us")
        assert 0 <= int(spin) <= LONGEST_PAUSE_MICROSECONDS
