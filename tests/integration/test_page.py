"""The page's HTTP side over a real server: what it serves, what it refuses, and that it obeys the edge's bounds."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message

import pytest
from prometheus_client import start_http_server

from service.page import application
from service.page.application import MAX_BODY_BYTES, add_page
from tests.doubles.edge_server import EdgeServer, edge_server, until

REQUEST = {"contents": ["I love you. How are you?"], "sourceLanguageCode": "en", "targetLanguageCode": "de"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One answer."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServer:
    """A server with its page."""

    edge: EdgeServer
    port: int

    async def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """What the server answers."""

        def exchange() -> HttpAnswer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request(method, path, body=body or None, headers=dict(headers or {}))
                response = connection.getresponse()
                return HttpAnswer(status=response.status, headers=response.headers, body=response.read())
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)

    async def translate(self, request: Mapping[str, object]) -> HttpAnswer:
        """The answer to a request as the page sends it."""
        return await self.ask("POST", "/page/translate", body=json.dumps(request).encode(), headers=JSON)


@asynccontextmanager
async def page_server(*, opened: bool = True, max_calls: int = 100) -> AsyncIterator[PageServer]:
    """Starts one, and stops it afterwards."""
    async with edge_server(opened=opened, max_calls=max_calls) as edge:
        server, thread = start_http_server(0, addr="127.0.0.1", registry=edge.metrics.registry)
        add_page(server, edge.servicer, edge.interceptor, edge.metrics)
        try:
            yield PageServer(edge=edge, port=int(server.server_port))
        finally:
            edge.runner.gate.set()
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()


@pytest.fixture
async def page() -> AsyncIterator[PageServer]:
    """A server with its page."""
    async with page_server() as running:
        yield running


async def test_the_page_and_metrics_share_a_port(page: PageServer) -> None:
    """The root is the page, its files come with their types, and /metrics is what it was."""
    kinds = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}
    for path, kind in kinds.items():
        answer = await page.ask("GET", path)
        assert (answer.status, answer.headers.get_content_type()) == (200, kind)
        assert (await page.ask("HEAD", path)).body == b""
    metrics = await page.ask("GET", "/metrics")
    assert b"dragoman_requests_in_flight" in metrics.body
    assert metrics.headers["Content-Security-Policy"] is None


async def test_the_page_runs_and_fetches_only_its_own_files(page: PageServer) -> None:
    """A strict policy, and nothing in the page that it would have to forbid."""
    answer = await page.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    text = answer.body.decode()
    for forbidden in ("<style", "style=", "onclick", "<script>", "http://", "https://"):
        assert forbidden not in text, forbidden
    for file in ("/page.js", "/page.css"):
        text = (await page.ask("GET", file)).body.decode()
        assert not {word for word in ("innerHTML", "eval(", "http://", "https://", "@import") if word in text}


async def test_a_translation_is_the_wires_json(page: PageServer) -> None:
    """The same message as over gRPC, in its JSON form; metrics and log know it as the page's."""
    options = {"beamSize": 4, "numHypotheses": 3, "returnAlignments": True}
    answer = await page.translate(REQUEST | {"options": options})
    assert answer.status == 200, answer.body
    translations = answer.json()["translations"]
    assert isinstance(translations, list)
    (translation,) = translations
    assert translation["text"] == "I love you. How are you?"
    assert len(translation["hypotheses"]) == 3
    alignment = translation["sentences"][0]["alignment"]
    assert len(alignment["weights"]) == len(alignment["sourceTokens"]) * len(alignment["targetTokens"])
    assert answer.json()["timings"]
    await page.edge.until_idle()
    assert page.edge.metric("dragoman_requests_total", method="Page", model="echo", code="OK") == 1


async def test_models_are_listed(page: PageServer) -> None:
    """With their languages, for the page's choice."""
    models = (await page.ask("GET", "/page/models")).json()["models"]
    assert isinstance(models, list)
    assert [(model["id"], len(model["languagePairs"])) for model in models] == [("echo", 3)]


async def test_the_live_batch_shows_rows_and_queue(page: PageServer) -> None:
    """Rows of all workers together, rows in all, and what waits; what the engine reports, before any call."""
    metrics = page.edge.metrics
    metrics.row_slots.labels("echo").set(16)
    for worker, rows in (("0", 3), ("1", 4)):
        metrics.row_slots_used.labels("echo", worker).set(rows)
    metrics.queue_sequences.labels("echo").set(5)
    answer = await page.ask("GET", "/page/batch")
    assert answer.json() == {"models": [{"id": "echo", "rows": 7, "row_slots": 16, "waiting": 5}]}


@pytest.mark.parametrize(
    ("request_fields", "status", "named"),
    [
        ({"targetLanguageCode": "sw"}, 404, "sw"),
        ({"contents": []}, 400, "contents"),
        ({"options": {"beamSize": 99}}, 400, "beam_size"),
        ({"contents": ["x" * 10_001]}, 400, "contents"),
        ({"nonsense": 1}, 400, "not the JSON"),
        ({"contents": 7}, 400, "not the JSON"),
    ],
)
async def test_bad_requests_are_told_in_a_line(
    page: PageServer, request_fields: dict[str, object], status: int, named: str
) -> None:
    """The wire's own messages, with the HTTP status that fits."""
    answer = await page.translate(REQUEST | request_fields)
    assert answer.status == status
    assert named in str(answer.json()["message"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/page/translate", {}, b"", 405),
        ("POST", "/", {}, b"x", 405),
        ("DELETE", "/page/models", {}, b"", 405),
        ("GET", "/page/nothing", {}, b"", 404),
        ("GET", "/page/../../../etc/passwd", {}, b"", 404),
        ("POST", "/page/translate", {"Content-Type": "text/plain"}, b"{}", 415),
        ("POST", "/page/translate", JSON, b"\xff\xfe", 400),
        ("POST", "/page/translate", JSON, b'{"options":' * 200, 400),
        ("POST", "/page/translate", JSON, b"x" * (MAX_BODY_BYTES + 1), 413),
        ("POST", "/page/translate", JSON | {"Content-Length": "-1"}, b"", 411),
    ],
)
async def test_what_the_page_would_not_send_is_refused(
    page: PageServer, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Other methods, paths, kinds of content (a form of another site among them), and bodies that are too large."""
    answer = await page.ask(method, path, headers=headers, body=body)
    assert answer.status == status
    assert answer.json()["message"]


async def test_what_fails_inside_stays_inside(page: PageServer) -> None:
    """A failed step is 500 with the fixed text."""
    page.edge.runner.failing = True
    answer = await page.translate(REQUEST)
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_the_edges_bound_on_calls_holds() -> None:
    """A page's call counts among all, and one too many is 429 with a time to come back."""
    async with page_server(max_calls=1) as page:
        page.edge.runner.gate.clear()
        first = asyncio.create_task(page.translate(REQUEST))
        await until(lambda: page.edge.engine.running > 0)
        answer = await page.translate(REQUEST)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        page.edge.runner.gate.set()
        assert (await first).status == 200


async def test_before_and_after_serving_the_page_says_so() -> None:
    """503 while models load."""
    async with page_server(opened=False) as page:
        for answer in (await page.translate(REQUEST), await page.ask("GET", "/page/models")):
            assert answer.status == 503
            assert "loading" in str(answer.json()["message"])


async def test_a_body_that_never_comes_is_given_up(page: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is free again, and the server goes on."""
    monkeypatch.setattr(application.PageRequestHandler, "timeout", 0.05)

    def stall() -> bytes:
        with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
            head = "POST /page/translate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            connection.sendall(head.encode())
            return connection.recv(100)

    assert b" 408 " in await asyncio.to_thread(stall)
    assert (await page.ask("GET", "/")).status == 200
