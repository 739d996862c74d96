"""The server's TLS credentials, read again when their files change: new handshakes see the new certificate."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.errors import ConfigError
from service.logging import get_logger
from service.rpc.file_state import FileState, file_state

_ATTEMPTS = 3
"""Files that change while they are read are read again this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: our certificate chain and its key, and the authorities of clients if clients must show one."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow `files`. Raises ConfigError with one line if they cannot be used now."""
    source = _CertificateSource(files)
    return grpc.dynamic_ssl_server_credentials(
        source.read(),
        source.changed,  # type: ignore[arg-type]  # the stubs do not know that None changes nothing
        require_client_authentication=files.client_ca is not None,
    )


class _CertificateSource:
    """Reads the files; gRPC asks `changed` before every handshake, on a thread of its own."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._paths = [path for path in (files.certificate, files.key, files.client_ca) if path is not None]
        self._seen: FileState = ()
        self._lock = threading.Lock()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold. Raises ConfigError."""
        files = self._files
        for _ in range(_ATTEMPTS):
            self._seen = file_state(self._paths)
            _check(files)
            key, chain = _content(files.key, "--tls-key"), _content(files.certificate, "--tls-certificate")
            authorities = None if files.client_ca is None else _content(files.client_ca, "--tls-client-ca")
            if file_state(self._paths) == self._seen:
                return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)
        raise ConfigError("--tls-certificate: the files change while they are read")

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold if it is new and good, else None: the last good certificate stays in use."""
        with self._lock:
            if file_state(self._paths) == self._seen:
                return None
            try:
                configuration = self.read()
            except ConfigError as error:
                get_logger().error("certificate_not_reloaded", reason=str(error))
                return None
            get_logger().info("certificate_reloaded")
            return configuration


def _check(files: TlsFiles) -> None:
    """Raises ConfigError for what gRPC would only find at a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: a key that has one is refused here instead of asking for it on the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError):
        raise ConfigError(f"--tls-certificate: {files.certificate} and {files.key} are no pair of PEM files") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError):
            raise ConfigError(f"--tls-client-ca: {files.client_ca} holds no certificates") from None


def _content(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(f"{setting}: cannot read {path}") from None
