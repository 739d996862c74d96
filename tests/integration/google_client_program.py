"""What a program written for Google's client does; run with the address of a server and nothing of Dragoman to help."""

import asyncio
import sys

import grpc
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound
from google.cloud import translate_v3
from google.cloud.translate_v3.services.translation_service.transports import (
    TranslationServiceGrpcAsyncIOTransport,
    TranslationServiceGrpcTransport,
)

PARENT = "projects/any/locations/global"


def refusal(client: translate_v3.TranslationServiceClient, request: dict[str, object]) -> GoogleAPICallError | None:
    """What the client raises for a request."""
    try:
        client.translate_text(request=request)
    except GoogleAPICallError as error:
        return error
    return None


def use(address: str) -> None:
    """The blocking client: flattened arguments, requests, languages, errors."""
    transport = TranslationServiceGrpcTransport(host=address, channel=grpc.insecure_channel(address))
    with translate_v3.TranslationServiceClient(transport=transport) as client:
        answer = client.translate_text(
            request={
                "parent": PARENT,
                "contents": ["I love you &#40;and me&#41;.", "How are you?"],
                "source_language_code": "en",
                "target_language_code": "de",
                "labels": {"team": "blue"},
            }
        )
        assert [each.translated_text for each in answer.translations] == ["I love you (and me).", "How are you?"]
        assert answer.translations[0].model == f"{PARENT}/models/echo"
        answer = client.translate_text(
            parent=PARENT,
            model=client.common_location_path("any", "global") + "/models/general/nmt",
            mime_type="text/plain",
            source_language_code="en-US",
            target_language_code="de",
            contents=["We are fine."],
        )
        assert answer.translations[0].translated_text == "We are fine."
        languages = client.get_supported_languages(parent=PARENT).languages
        assert [each.language_code for each in languages if each.support_target] == ["de", "fr", "zh"]
        refusals: tuple[tuple[dict[str, object], type[GoogleAPICallError], str], ...] = (
            ({"mime_type": "text/html", "contents": ["<b>x</b>"]}, InvalidArgument, "contents"),
            ({"glossary_config": {"glossary": f"{PARENT}/glossaries/g"}}, InvalidArgument, "glossary_config"),
            ({"source_language_code": ""}, InvalidArgument, "source_language_code"),
            ({"target_language_code": "sw"}, NotFound, "sw"),
        )
        for fields, error, named in refusals:
            known: dict[str, object] = {
                "parent": PARENT,
                "contents": ["x"],
                "source_language_code": "en",
                "target_language_code": "de",
            }
            caught = refusal(client, known | fields)
            assert isinstance(caught, error), caught
            assert named in caught.message, caught
            assert caught.reason in ("INVALID_ARGUMENT", "MODEL_NOT_FOUND"), caught


async def use_asynchronously(address: str) -> None:
    """The client for asyncio."""
    transport = TranslationServiceGrpcAsyncIOTransport(host=address, channel=grpc.aio.insecure_channel(address))
    client = translate_v3.TranslationServiceAsyncClient(transport=transport)
    answer = await client.translate_text(
        request={
            "parent": "projects/any",
            "contents": ["I love you."],
            "source_language_code": "en",
            "target_language_code": "fr",
        }
    )
    assert answer.translations[0].translated_text == "I love you."
    await transport.close()


use(sys.argv[1])
asyncio.run(use_asynchronously(sys.argv[1]))
if len(sys.argv) > 2:  # a checkout: its stubs beside Google's, in one process
    sys.path.insert(0, sys.argv[2])
    from dragoman.google_v3 import translation_service_pb2

    assert translation_service_pb2.Translation(model="x").SerializeToString() == translate_v3.Translation.serialize(
        translate_v3.Translation(model="x")
    )
print("works")
