"""TLS and mTLS over a real gRPC server, and certificates that are replaced while it runs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import cast

import grpc
import pytest
import trustme
from grpc import aio
from structlog.testing import capture_logs

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.client import AsyncTranslationClient, tls_credentials
from service.errors import ConfigError
from service.rpc.credentials import TlsFiles, server_credentials
from tests.doubles.edge_server import EdgeServer, edge_server


class Authority:
    """A certificate authority whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.certificate = folder / "authority.pem"
        folder.mkdir(exist_ok=True)
        self._authority.cert_pem.write_to_path(self.certificate)

    def issue(self, name: str) -> TlsFiles:
        """A certificate for this machine in the name's files, which are overwritten."""
        issued = self._authority.issue_cert("localhost", "127.0.0.1", common_name=name)
        files = TlsFiles(certificate=self._folder / "certificate.pem", key=self._folder / "key.pem")
        issued.private_key_pem.write_to_path(files.key)
        files.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The one that the client trusts."""
    return Authority(tmp_path / "server")


def client_of(server: EdgeServer, authority: Authority, own: TlsFiles | None = None) -> AsyncTranslationClient:
    """A client that trusts `authority` and shows its own certificate, if it has one."""
    shown = {} if own is None else {"certificate": own.certificate, "key": own.key}
    return AsyncTranslationClient(server.address, credentials=tls_credentials(ca=authority.certificate, **shown))


async def is_refused(server: EdgeServer, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a client with these credentials, None for plain text, gets no connection."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    channel = (
        aio.insecure_channel(server.address, options)
        if credentials is None
        else aio.secure_channel(server.address, credentials, options)
    )
    async with channel:
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListModels(pb.ListModelsRequest(), timeout=20)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def shown_name(server: EdgeServer, authority: Authority) -> str:
    """The common name in the certificate that a new handshake sees."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert()
    assert shown is not None
    names = cast("tuple[tuple[tuple[str, str], ...], ...]", shown["subject"])
    return next(value for part in names for key, value in part if key == "commonName")


async def test_calls_are_encrypted(authority: Authority) -> None:
    """A client that trusts the authority is answered; one in plain text and one that trusts another are not."""
    async with edge_server(tls=authority.issue("first")) as server:
        async with client_of(server, authority) as client:
            assert (await client.translate(["I love you."], source="en", target="de")).translations
        assert await is_refused(server, None)
        stranger = Authority(authority.certificate.parent / "stranger")
        assert await is_refused(server, tls_credentials(ca=stranger.certificate))


async def test_a_new_certificate_is_taken_up_without_a_restart(authority: Authority) -> None:
    """New handshakes see it, and calls that run on open connections are not disturbed."""
    tls = authority.issue("first")
    async with edge_server(tls=tls, log_calls=False) as server, client_of(server, authority) as client:
        stream = client.stream("I love you. " * 20, source="en", target="de")
        await anext(stream)
        server.runner.gate.clear()
        assert await asyncio.to_thread(shown_name, server, authority) == "first"
        authority.issue("second")
        with capture_logs() as logs:
            names = [await asyncio.to_thread(shown_name, server, authority) for _ in range(3)]
        assert names == ["second"] * 3
        assert [line["event"] for line in logs] == ["certificate_reloaded"]
        server.runner.gate.set()
        assert [response async for response in stream][-1].HasField("end")
        assert await client.list_models()


@pytest.mark.parametrize("damage", ["not PEM", "of another key", "missing"])
async def test_a_broken_new_file_changes_nothing(authority: Authority, damage: str) -> None:
    """The old certificate is shown on, one log line says why, and a good one is taken up later."""
    files = authority.issue("first")
    async with edge_server(tls=files) as server:
        if damage == "not PEM":
            files.certificate.write_text("no certificate")
        elif damage == "missing":
            files.key.unlink()
        else:
            trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(files.key)
        with capture_logs() as logs:
            names = [await asyncio.to_thread(shown_name, server, authority) for _ in range(3)]
        assert names == ["first"] * 3
        assert [line["event"] for line in logs] == ["certificate_not_reloaded"]
        authority.issue("second")
        assert await asyncio.to_thread(shown_name, server, authority) == "second"


async def test_clients_must_show_a_certificate_where_an_authority_is_set(authority: Authority) -> None:
    """One of that authority is let in; none, and one of another authority, are not."""
    clients, strangers = (Authority(authority.certificate.parent / name) for name in ("clients", "strangers"))
    files = authority.issue("first")
    mutual = TlsFiles(certificate=files.certificate, key=files.key, client_ca=clients.certificate)
    async with edge_server(tls=mutual) as server:
        async with client_of(server, authority, clients.issue("friend")) as client:
            assert await client.list_models()
        stranger = strangers.issue("stranger")
        unknown = tls_credentials(ca=authority.certificate, certificate=stranger.certificate, key=stranger.key)
        assert await is_refused(server, tls_credentials(ca=authority.certificate))
        assert await is_refused(server, unknown)


def test_unusable_files_are_refused_at_the_start(authority: Authority, tmp_path: Path) -> None:
    """One line that names the setting."""
    files = authority.issue("first")
    wrong = [
        (TlsFiles(certificate=tmp_path / "none", key=files.key), "--tls-certificate: "),
        (TlsFiles(certificate=files.key, key=files.certificate), "--tls-certificate: "),
        (TlsFiles(certificate=files.certificate, key=files.key, client_ca=files.key), "--tls-client-ca: "),
    ]
    for each, start in wrong:
        with pytest.raises(ConfigError) as caught:
            server_credentials(each)
        assert str(caught.value).startswith(start)
        assert "\n" not in str(caught.value)
