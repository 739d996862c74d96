"""Google's Cloud Translation v3 methods, so that programs written for Google's client can be pointed at this server."""

from __future__ import annotations

from grpc import aio

from dragoman.google_v3 import translation_service_pb2 as pb
from dragoman.google_v3 import translation_service_pb2_grpc as pb_grpc
from service.errors import InvalidInputError, NotFoundError
from service.rpc.google_converters import (
    check_parent,
    languages_to_google,
    model_id,
    request_from_google,
    response_to_google,
)
from service.rpc.servicer import TranslationServicer


class GoogleTranslationServicer(pb_grpc.TranslationServiceServicer):
    """The same answers as our own service gives, with the same limits, in Google's messages."""

    def __init__(self, ours: TranslationServicer) -> None:
        self._ours = ours

    async def TranslateText(  # noqa: N802 - the wire's name
        self,
        request: pb.TranslateTextRequest,
        context: aio.ServicerContext[pb.TranslateTextRequest, pb.TranslateTextResponse],
    ) -> pb.TranslateTextResponse:
        """See google/cloud/translation/v3/translation_service.proto."""
        result = await self._ours.answer(request_from_google(request))
        return response_to_google(result, request)

    async def GetSupportedLanguages(  # noqa: N802
        self,
        request: pb.GetSupportedLanguagesRequest,
        context: aio.ServicerContext[pb.GetSupportedLanguagesRequest, pb.SupportedLanguages],
    ) -> pb.SupportedLanguages:
        """See google/cloud/translation/v3/translation_service.proto."""
        check_parent(request.parent)
        if request.display_language_code:
            message = "languages' names are not known here; leave it empty for their codes"
            raise InvalidInputError(message, field="display_language_code")
        wanted = model_id(request.model)
        models = [model for model in self._ours.serving().catalogue.models if wanted in ("", model.id)]
        if not models:
            raise NotFoundError("no such model; ListModels names those that are served")
        return languages_to_google(models)
