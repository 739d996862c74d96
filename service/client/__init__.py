"""The typed client, blocking and for asyncio; it needs grpcio and protobuf only."""

from service.client.asynchronous import AsyncTranslationClient
from service.client.credentials import CredentialsError, tls_credentials
from service.client.errors import TranslationError
from service.client.requests import translate_request
from service.client.service_config import SERVICE_CONFIG
from service.client.sync import TranslationClient

__all__ = [
    "SERVICE_CONFIG",
    "AsyncTranslationClient",
    "CredentialsError",
    "TranslationClient",
    "TranslationError",
    "tls_credentials",
    "translate_request",
]
