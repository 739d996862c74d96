"""The tokens file and the command that adds to it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from service.errors import ConfigError
from service.tokens import TokenLimits, add_token, digest_of, main, read_tokens

DIGEST = digest_of("x")


def test_a_new_token_is_printed_once_and_kept_as_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds names, digests and limits; only its owner may read it."""
    file = tmp_path / "tokens.toml"
    limits = ["--characters-per-second", "500", "--calls-per-second", "2.5"]
    assert main(["new", "search", "--file", str(file), *limits]) == 0
    assert main(["new", "mail", "--file", str(file)]) == 0
    tokens = capsys.readouterr().out.split()
    assert [len(token) > 40 for token in tokens] == [True, True]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(token in file.read_text() for token in tokens)
    entries = read_tokens(file)
    assert [entry.sha256 for entry in entries.values()] == [digest_of(token) for token in tokens]
    assert (entries["search"].characters_per_second, entries["search"].calls_per_second) == (500.0, 2.5)
    assert entries["mail"].characters_per_second is None


def test_a_file_whose_last_line_does_not_end_is_added_to(tmp_path: Path) -> None:
    """As some editors leave it; what was there and what is new can both be read."""
    file = tmp_path / "tokens.toml"
    file.write_text(f"[search]\nsha256 = '{DIGEST}'")
    token = add_token(file, "mail", TokenLimits())
    assert {name: entry.sha256 for name, entry in read_tokens(file).items()} == {
        "search": DIGEST,
        "mail": digest_of(token),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["new", "search"], "already"),
        (["new", "A b"], "1 to 63"),
        (["new", "new", "--calls-per-second", "0"], "greater than 0"),
    ],
)
def test_what_cannot_be_added_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    """Exit code 2, no token printed, and the file stays as it was."""
    file = tmp_path / "tokens.toml"
    add_token(file, "search", TokenLimits())
    before = file.read_text()
    assert main([*arguments, "--file", str(file)]) == 2
    shown = capsys.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert says in shown.err
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a", "not TOML"),
        ('"\\n" = 1', "a name is"),
        ("[a]\nsha256 = 'short'", "a.sha256"),
        (f"[a]\nsha256 = '{DIGEST}'\nrate = 1", "a.rate"),
        (f"[a]\nsha256 = '{DIGEST}'\ncalls_per_second = -1", "a.calls_per_second"),
        (f"[a]\nsha256 = '{DIGEST}'\nburst_seconds = inf", "a.burst_seconds"),
        (f"['A b']\nsha256 = '{DIGEST}'", "a name is"),
        (f"['{'a' * 64}']\nsha256 = '{DIGEST}'", "a name is"),
        ("a = 1", "a: "),
        ("".join(f"[t{n}]\n" for n in range(1001)), "more than 1000"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    """The line names the table and key at fault."""
    file = tmp_path / "tokens.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_tokens(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """No file is no empty list of tokens."""
    with pytest.raises(ConfigError, match="cannot read"):
        read_tokens(tmp_path / "none.toml")
