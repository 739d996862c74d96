"""The client's files of credentials: what cannot be used is said in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from service.client import CredentialsError, tls_credentials
from service.client.__main__ import main
from service.client.credentials import read_token


def test_a_token_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    """As the command that makes tokens prints them."""
    file = tmp_path / "token"
    file.write_text("dragoman_abc\n")
    assert read_token(file) == "dragoman_abc"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", "ü".encode()])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """What is sent as metadata must be one word of ASCII."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(CredentialsError, match="holds no token"):
        read_token(file)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """And both must be there."""
    with pytest.raises(CredentialsError, match="go together"):
        tls_credentials(certificate=tmp_path / "certificate.pem")
    with pytest.raises(CredentialsError, match="cannot read"):
        tls_credentials(ca=tmp_path / "none.pem")


@pytest.mark.parametrize("option", ["--ca", "--token-file"])
def test_the_shell_client_names_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """Exit code 1 and one line."""
    call: Sequence[str] = ["--source", "en", "--target", "de", option, str(tmp_path / "none"), "Yes."]
    assert main(call) == 1
    error = capsys.readouterr().err
    assert error.startswith("client: cannot read ")
    assert len(error.splitlines()) == 1
