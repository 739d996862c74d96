"""Sessions of one bundle share the cores: none may hold them while another runs."""

from __future__ import annotations

from pathlib import Path

from service.bundle import Bundle
from service.runtime import RuntimeSettings
from service.runtime.sessions import open_sessions

LONGEST_PAUSE_MICROSECONDS = 1000


def test_threads_that_wait_give_up_their_core(tiny_bundle: Path) -> None:
    """By default threads spin for 40 ms and more after a run, on cores that the other graph's threads want by then."""
    sessions = open_sessions(Bundle.load(tiny_bundle), RuntimeSettings(threads_per_worker=2, lone_threads=3))
    for session in (sessions.encoder, sessions.decoder, sessions.lone_decoder):
        assert session is not None
        spin = session.get_session_options().get_session_config_entry("session.intra_op.spin_duration_us")
        assert 0 <= int(spin) <= LONGEST_PAUSE_MICROSECONDS


def test_a_lone_worker_has_a_decoder_with_more_threads(tiny_bundle: Path) -> None:
    """Where it asks for more than every worker has anyway."""
    bundle = Bundle.load(tiny_bundle)
    sessions = open_sessions(bundle, RuntimeSettings(lone_threads=2))
    assert sessions.lone_decoder is not None
    threads = [each.get_session_options().intra_op_num_threads for each in (sessions.decoder, sessions.lone_decoder)]
    assert threads == [1, 2]
    assert open_sessions(bundle, RuntimeSettings(threads_per_worker=2, lone_threads=2)).lone_decoder is None
