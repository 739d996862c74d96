"""The page's side of the HTTP port: a WSGI application in front of that of /metrics."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from typing import TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from google.protobuf import json_format
from google.protobuf.message import Message

from dragoman.v1 import translation_pb2 as pb
from service.errors import InvalidInputError
from service.metrics import Metrics
from service.page.answers import JSON, PageAnswer, failure, json_answer, refusal
from service.page.batch import live_batch
from service.rpc.call import Call
from service.rpc.converters import models_to_proto, request_from_proto, response_to_proto
from service.rpc.interceptor import CallInterceptor
from service.rpc.servicer import TranslationServicer

METHOD = "Page"
"""What metrics and logs call a translation that was asked for on the page."""
MAX_BODY_BYTES = 64 * 1024
DEADLINE_SECONDS = 30.0
SOCKET_SECONDS = 10.0
"""How long a browser may be silent in the middle of a request."""

_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_Response = TypeVar("_Response", bound=Message)
# Nothing but our own files runs or is fetched, and nobody frames the page.
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class PageApplication:
    """Serves the page, and everything else by `metrics_application`; called from the HTTP server's threads.

    Translations run on `loop`, through the same servicer and within the same bounds as gRPC's.
    """

    def __init__(
        self,
        servicer: TranslationServicer,
        interceptor: CallInterceptor,
        metrics: Metrics,
        *,
        metrics_application: WSGIApplication,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._servicer = servicer
        self._interceptor = interceptor
        self._metrics = metrics
        self._metrics_application = metrics_application
        self._loop = loop
        folder = files("service.page") / "static"
        self._static = {
            path: PageAnswer(body=(folder / name).read_bytes(), content_type=kind)
            for path, (name, kind) in _STATIC.items()
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """See PEP 3333."""
        path, method = str(environ.get("PATH_INFO", "")), str(environ.get("REQUEST_METHOD", ""))
        if path not in self._static and not path.startswith("/page/"):
            return self._metrics_application(environ, start_response)
        answer = self._answer(path, method, environ)
        length = ("Content-Length", str(len(answer.body)))
        headers = [("Content-Type", answer.content_type), length, *_HEADERS, *answer.headers]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [] if method == "HEAD" else [answer.body]

    def _answer(self, path: str, method: str, environ: WSGIEnvironment) -> PageAnswer:
        allowed = ("POST",) if path == "/page/translate" else ("GET", "HEAD")
        if method not in allowed:
            allow = (("Allow", ", ".join(allowed)),)
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this method is not allowed here", headers=allow)
        if path in self._static:
            return self._static[path]
        request_id = uuid.uuid4().hex
        try:
            match path:
                case "/page/translate":
                    return self._translated(environ, request_id)
                case "/page/models":
                    return _message_answer(self._on_loop(self._models()))
                case "/page/batch":
                    return json_answer(live_batch(self._metrics))
        except TimeoutError:
            return refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
        except Exception as error:
            return failure(error, request_id=request_id)
        return refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _translated(self, environ: WSGIEnvironment, request_id: str) -> PageAnswer:
        # No other kind: a form of another site could send that without the browser's asking us first.
        if environ.get("CONTENT_TYPE") != JSON:
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content type must be {JSON}")
        length = str(environ.get("CONTENT_LENGTH") or "")
        if not length.isdecimal():
            return refusal(HTTPStatus.LENGTH_REQUIRED, "the content length is missing")
        if int(length) > MAX_BODY_BYTES:
            message = f"{length} bytes; a request from the page may have {MAX_BODY_BYTES}"
            return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        request = _parsed(environ["wsgi.input"].read(int(length)))
        return _message_answer(self._on_loop(self._translate(request, request_id)))

    async def _translate(self, request: pb.TranslateRequest, request_id: str) -> pb.TranslateResponse:
        call = Call(method=METHOD, request_id=request_id, client_seconds=DEADLINE_SECONDS)
        with self._interceptor.accounting.accounted(call):
            result = await self._servicer.answer(request_from_proto(request))
        return response_to_proto(result, request_id=request_id)

    async def _models(self) -> pb.ListModelsResponse:
        translator = self._servicer.serving()
        return models_to_proto(translator.catalogue, translator.limits)

    def _on_loop(self, work: Coroutine[object, object, _Response]) -> _Response:
        """Runs `work` where translations run, and nothing else: what can be done on this thread holds nobody up."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class PageRequestHandler(WSGIRequestHandler):
    """Gives silent connections up, and writes no log of its own."""

    timeout = SOCKET_SECONDS

    def handle(self) -> None:
        """See BaseRequestHandler; a browser that goes away is no error."""
        with suppress(TimeoutError, ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Nothing: what a browser asks for may hold what a user wrote."""


def add_page(server: WSGIServer, servicer: TranslationServicer, interceptor: CallInterceptor, metrics: Metrics) -> None:
    """Puts the page in front of what `server` serves; call it on the event loop that translates."""
    application = server.get_app()
    if application is None:
        raise ValueError("the server serves nothing yet: this is a bug")
    loop = asyncio.get_running_loop()
    server.RequestHandlerClass = PageRequestHandler
    server.set_app(PageApplication(servicer, interceptor, metrics, metrics_application=application, loop=loop))


def _message_answer(message: Message) -> PageAnswer:
    return json_answer(json_format.MessageToDict(message))


def _parsed(body: bytes) -> pb.TranslateRequest:
    try:
        return json_format.Parse(body, pb.TranslateRequest(), max_recursion_depth=10)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise InvalidInputError("not the JSON of a TranslateRequest") from None
