"""Settings come from the command line, else the environment, else defaults, and wrong ones are named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import config
from service.config import load_settings
from service.errors import ConfigError


def test_the_command_line_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the environment beats the default."""
    monkeypatch.setenv("DRAGOMAN_PORT", "7")
    monkeypatch.setenv("DRAGOMAN_METRICS_PORT", "8")
    settings = load_settings(["--bundle", "a", "--port", "9"])
    assert (settings.port, settings.metrics_port, settings.log_level) == (9, 8, "info")


@pytest.mark.parametrize("arguments", [["--bundle", "a", "--bundle", "b"], ["--bundle=a:b"], ["--bundle", "a,b"]])
def test_several_bundles_may_be_named(arguments: list[str]) -> None:
    """By repeating the option or in one value, as the environment needs it."""
    assert load_settings(arguments).bundle == (Path("a"), Path("b"))


def test_bundles_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers are configured."""
    monkeypatch.setenv("DRAGOMAN_BUNDLE", "x:y")
    assert load_settings([]).bundle == (Path("x"), Path("y"))


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ([], "settings: at least one --bundle"),
        (["--bundle", "a", "--default-model", "en-de=x"], "--default-model: "),
        (["--bundle", ""], "settings: at least one --bundle"),
        (["--bundle", "a", "--port", "70000"], "--port: "),
        (["--bundle", "a", "--drain-seconds", "-1"], "--drain-seconds: "),
        (["--bundle", "a", "--row-slots", "4", "--reserved-rows", "4"], "settings: --reserved-rows"),
        (["--bundle", "a", "--max-queued-sequences", "8"], "settings: --sentences-in-flight"),
        (["--bundle", "a", "--tls-certificate", "x"], "settings: --tls-certificate and --tls-key"),
        (["--bundle", "a", "--tls-client-ca", "x"], "settings: --tls-client-ca needs"),
        (["--bundle", "a", "--health-port", "-1"], "--health-port: "),
        (["--bundle", "a", "--page", "--tokens-file", "x"], "settings: --page lets everybody in"),
        (
            ["--bundle", "a", "--page", "--tls-certificate", "x", "--tls-key", "y", "--tls-client-ca", "z"],
            "settings: --page lets everybody in",
        ),
        (["--bundle", "a", "--cache-mib", "-1"], "--cache-mib: "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(arguments: list[str], start: str) -> None:
    """The option begins the line."""
    with pytest.raises(ConfigError) as caught:
        load_settings(arguments)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_workers_fill_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the host's core count, and at least one."""
    monkeypatch.setattr(config, "available_cores", lambda: 6)
    assert load_settings(["--bundle", "a"]).worker_count == 6
    assert load_settings(["--bundle", "a", "--threads-per-worker", "4"]).worker_count == 1
    assert load_settings(["--bundle", "a", "--threads-per-worker", "8"]).worker_count == 1
    assert load_settings(["--bundle", "a", "--workers", "3"]).worker_count == 3


def test_a_lone_worker_gets_the_threads_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a bound and for a large model, unless it is set."""
    large, small = config.LEAST_LONE_BYTES, config.LEAST_LONE_BYTES - 1
    monkeypatch.setattr(config, "available_cores", lambda: 3)
    assert load_settings(["--bundle", "a"]).lone_thread_count(large) == 3
    assert load_settings(["--bundle", "a"]).lone_thread_count(small) == 1
    assert load_settings(["--bundle", "a", "--workers", "2"]).lone_thread_count(large) == 2
    assert load_settings(["--bundle", "a", "--lone-threads", "1"]).lone_thread_count(large) == 1
    assert load_settings(["--bundle", "a", "--lone-threads", "2"]).lone_thread_count(small) == 2
    monkeypatch.setattr(config, "available_cores", lambda: 64)
    assert load_settings(["--bundle", "a"]).lone_thread_count(large) == config.MOST_LONE_THREADS


def test_every_setting_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """--help says of each option what it does."""
    with pytest.raises(SystemExit):
        load_settings(["--help"])
    shown = capsys.readouterr().out
    for name, field in config.Settings.model_fields.items():
        assert field.description, name
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--memory-limit-mib", "1000", "--cache-mib", "200"], 800 * 2**20),
        (["--memory-limit-mib", "1000", "--cache-mib", "0"], 1000 * 2**20),
        (["--cache-mib", "200"], 3800 * 2**20),
        (["--memory-limit-mib", "100", "--cache-mib", "200"], 1),
        (["--memory-limit-mib", "1000", "--provider", "cuda"], 1000 * 2**20),
        (["--provider", "cuda"], None),
    ],
)
def test_the_cache_of_translations_is_part_of_the_memory_plan(
    arguments: list[str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may take is not there for models; on a GPU's memory it takes nothing."""
    monkeypatch.setattr(config, "available_memory", lambda: 4000 * 2**20)
    assert load_settings(["--bundle", "a", *arguments]).memory_limit_bytes == expected
