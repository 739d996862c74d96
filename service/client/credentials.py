"""TLS credentials of a client, from PEM files."""

from __future__ import annotations

from pathlib import Path

import grpc


class CredentialsError(Exception):
    """A file of credentials cannot be used; the message says which in one line."""


def tls_credentials(
    *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Credentials that trust the authorities in `ca`, or the usual ones without it.

    `certificate` and `key` are shown to servers that ask for them (mTLS). Raises CredentialsError.
    """
    if (certificate is None) != (key is None):
        raise CredentialsError("a certificate and its key go together")
    return grpc.ssl_channel_credentials(
        root_certificates=_content(ca), private_key=_content(key), certificate_chain=_content(certificate)
    )


def read_token(path: Path) -> str:
    """The token that a file holds, white space around it left out. Raises CredentialsError."""
    token = (_content(path) or b"").strip()
    if not token.isascii() or not token or token.split() != [token]:
        raise CredentialsError(f"{path} holds no token")
    return token.decode("ascii")


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        raise CredentialsError(f"cannot read {path}") from None
