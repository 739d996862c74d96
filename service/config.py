"""Settings of the service: from the command line, else the environment (prefix DRAGOMAN_), else defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict, SettingsError

from service.available_memory import available_memory
from service.cpu import available_cores
from service.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]

MOST_LONE_THREADS = 4
"""Measured with two only: many threads that share the little work of one row would mostly wait for each other."""
LEAST_LONE_BYTES = 32 * 2**20
"""A step of a smaller model is over before other threads have woken: 80 MiB gain a third, 10 MiB lose a seventh."""
_DEFAULT_MODEL = re.compile(r"(?P<source>[^:=]+):(?P<target>[^:=]+)=(?P<model>.+)")


class Settings(BaseSettings):
    """Translates text over gRPC with models traced to ONNX. Every option is also read from DRAGOMAN_<OPTION>."""

    model_config = SettingsConfigDict(
        env_prefix="DRAGOMAN_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
    )

    bundle: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folder of a bundle written by `python -m exporter export`; repeat it for several models (in the environment, put
    ":" or "," between them). The first bundle that knows a language pair is the pair's default."""

    bundle_directory: Path | None = None
    """Folder whose sub-folders are bundles, which come after those of `bundle`, in the order of their names."""

    bundle_poll_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time between two looks at the bundles' folders: what is new or has changed is loaded, what has gone is unloaded,
    and no call fails of it. 0 = only on SIGHUP."""

    default_model: Annotated[tuple[str, ...], NoDecode] = ()
    """SOURCE:TARGET=MODEL, such as en:de=en-defres: the model for calls of this pair that name none; repeat it for
    several pairs (in the environment, put "," between them)."""

    pivoting: bool = True
    """Translate a pair that no model knows through a third language, where two models make that possible."""

    host: str = "0.0.0.0"
    """Address to listen on, for gRPC and metrics."""

    port: Port = 50051
    """Port of gRPC; 0 takes any free one, which is printed."""

    metrics_port: Port = 9090
    """Port of /metrics over HTTP; 0 takes any free one, which is printed."""

    health_port: Port = 50052
    """Port of grpc.health.v1 alone, always in plain text, for probes that cannot speak TLS; 0 takes any free one, which
    is printed."""

    tls_certificate: Path | None = None
    """PEM file of our certificate chain; with `tls-key` it turns TLS on for gRPC. Read again when they change."""

    tls_key: Path | None = None
    """PEM file of the certificate's key, without a password."""

    tls_client_ca: Path | None = None
    """PEM file of authorities; clients must then show a certificate of one of them (mTLS)."""

    tokens_file: Path | None = None
    """File of bearer tokens made by `python -m service.tokens new`; every call must then bring one, but for health and
    reflection. Read again when it changes."""

    workers: Annotated[int, Field(ge=0)] = 0
    """Worker threads per model, each with slots of its own; 0 = cores this process may use / `threads-per-worker`, and
    one with `provider` cuda."""

    threads_per_worker: Count = 1
    """Threads that ONNX Runtime uses inside one worker's step. More threads than cores, all workers together, make
    a busy service slower."""

    lone_threads: Annotated[int, Field(ge=0)] = 0
    """Threads inside the step of a worker while no other has work, so that a text that is alone takes less time; 0 =
    as many as all workers have together, 4 at most, for a model of 32 MiB and more. Where these are more than
    `threads-per-worker`, the decoder is in memory twice."""

    row_slots: Annotated[int, Field(ge=1, le=1024)] = 32
    """Rows (beams) that one worker decodes side by side."""

    reserved_rows: Annotated[int, Field(ge=0)] = 4
    """Rows of each worker that bulk work may not take, so that interactive calls find room."""

    static_batching: bool = False
    """Let a worker take new sentences only when its batch is done, as servers without continuous batching do; slower,
    there to be compared with."""

    memory_limit_mib: Annotated[int, Field(ge=0)] = 0
    """Memory that weights, slots, keys and values, and the cache of translations may plan for together; 0 = what the
    cgroup or the machine has. A plan beyond it is refused at start-up. With `provider` cuda it is the GPU's memory,
    and 0 sets no limit."""

    provider: Literal["cpu", "cuda"] = "cpu"
    """Where the model runs: cpu takes bundles in fp32 or int8, cuda in fp16."""

    mode: Literal["fast", "deterministic"] = "fast"
    """With `provider` cuda: `deterministic` runs every step in one shape, so that no sentence's last bits depend on the
    others; `fast` pads as little as it can. On a CPU answers never depend on company."""

    device_id: Annotated[int, Field(ge=0)] = 0
    """With `provider` cuda: which GPU."""

    max_source_tokens: Count = 256
    """Source tokens that one sentence may have; the model's own limit holds where it is lower."""

    max_output_tokens: Count = 256
    """Target tokens that one sentence may have; the model's own limit holds where it is lower."""

    max_request_characters: Count = 100_000
    """Code points that all texts of one call may have together."""

    max_content_count: Count = 1024
    """Texts that one call may have."""

    max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """Largest message that gRPC accepts or sends, in bytes."""

    max_calls: Count = 4096
    """Calls that may run at a time, all clients together; more are refused with RESOURCE_EXHAUSTED."""

    max_connections: Count = 1024
    """Connections that may be open at a time; more are closed at once."""

    max_streams_per_connection: Count = 1024
    """Calls that one connection may have at a time; clients hold back the others."""

    max_queued_sequences: Count = 2048
    """Sentences that may wait per model; more are refused with RESOURCE_EXHAUSTED."""

    max_queued_tokens: Count = 131_072
    """Source tokens that may wait per model; more are refused with RESOURCE_EXHAUSTED. One call puts at most a quarter
    of them in at a time."""

    sentences_in_flight: Count = 128
    """Sentences that one call may have in the engine at a time; the rest of a long document follows as they finish."""

    bulk_items_in_flight: Count = 128
    """Items that one TranslateBulk stream may have in work at a time; no more are read until one finishes."""

    cache_mib: Annotated[int, Field(ge=0)] = 64
    """Memory for the translations of past sentences, from which identical ones are answered, in MiB; 0 turns this off,
    and with it that identical sentences in flight share one decoding. Answers do not change by it."""

    max_deadline_seconds: Seconds = 120.0
    """Longest time one unary or streaming call may take, whatever deadline the client sent."""

    drain_seconds: Annotated[float, Field(ge=0)] = 20.0
    """Time that accepted calls get to finish after SIGTERM."""

    readiness_grace_seconds: Annotated[float, Field(ge=0)] = 0.5
    """Time between failing readiness and refusing new calls after SIGTERM, for clients that watch health to go
    elsewhere. Where only load balancers or endpoints watch it, give them as long as they need."""

    stall_seconds: Seconds = 60.0
    """Liveness fails when work waits and no step has finished for this long, and for 100 usual steps."""

    max_connection_age_seconds: Seconds = 1800.0
    """Age at which a client's connection is closed gracefully, so that clients spread over new replicas."""

    keepalive_seconds: Seconds = 60.0
    """Idle time after which the server pings a client, to find dead connections."""

    reflection: bool = True
    """Serve gRPC server reflection, for grpcurl and buf curl."""

    page: bool = False
    """Serve, at the root of the metrics port, a page where people try translations and watch the batch. It asks nobody
    who he is, so that it is refused together with `tokens-file` and `tls-client-ca`."""

    tracing: bool = False
    """Send a trace of each call over OTLP, as OpenTelemetry's own variables (OTEL_...) say; needs dragoman[tracing]."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""

    log_calls: bool = True
    """Write one log line per call (never with text)."""

    @field_validator("bundle", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        items = [value] if isinstance(value, (str, Path)) else value
        if not isinstance(items, Sequence):
            return value
        return tuple(part for item in items for part in str(item).replace(",", os.pathsep).split(os.pathsep) if part)

    @field_validator("default_model", mode="before")
    @classmethod
    def _split_defaults(cls, value: object) -> object:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            return value
        parts = tuple(part for item in items for part in str(item).split(",") if part)
        for part in parts:
            if _DEFAULT_MODEL.fullmatch(part) is None:
                raise ValueError(f"{part!r} is not SOURCE:TARGET=MODEL")
        return parts

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if not self.bundle and self.bundle_directory is None:
            raise ValueError("at least one --bundle, or a --bundle-directory, is needed")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("--tls-client-ca needs --tls-certificate")
        if self.page and (self.tokens_file is not None or self.tls_client_ca is not None):
            raise ValueError("--page lets everybody in: it cannot be served with --tokens-file or --tls-client-ca")
        if self.reserved_rows >= self.row_slots:
            raise ValueError("--reserved-rows must be less than --row-slots")
        if self.sentences_in_flight > self.max_queued_sequences:
            raise ValueError("--sentences-in-flight must be at most --max-queued-sequences, or long texts never fit")
        return self

    @property
    def default_models(self) -> dict[tuple[str, str], str]:
        """The models that were named as defaults, by source and target language."""
        matches = [match for part in self.default_model if (match := _DEFAULT_MODEL.fullmatch(part)) is not None]
        return {(match["source"], match["target"]): match["model"] for match in matches}

    @property
    def memory_limit_bytes(self) -> int | None:
        """Memory that models may plan for: as set, else what this process may use, less the cache of translations; with
        a GPU it is the GPU's, where that cache is not, and None if not set."""
        limit = self.memory_limit_mib * 2**20 or (available_memory() if self.provider == "cpu" else None)
        if limit is None or self.provider != "cpu":
            return limit
        return max(1, limit - self.cache_mib * 2**20)

    @property
    def worker_count(self) -> int:
        """Worker threads per model: as set, else as many as the cores of this process hold, or one on a GPU."""
        if self.workers or self.provider == "cuda":
            return self.workers or 1
        return max(1, available_cores() // self.threads_per_worker)

    def lone_thread_count(self, model_bytes: int) -> int:
        """Threads of a worker that is alone: as set, else those of all workers, within what was found to help."""
        if self.lone_threads or model_bytes < LEAST_LONE_BYTES:
            return self.lone_threads or self.threads_per_worker
        return min(MOST_LONE_THREADS, self.worker_count * self.threads_per_worker)


def load_settings(arguments: Sequence[str]) -> Settings:
    """Reads the settings; ConfigError with one line for the first thing that is wrong. `--help` exits."""
    try:
        return CliApp.run(Settings, cli_args=list(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = "--" + ".".join(str(part) for part in first["loc"][:1]).replace("_", "-") if first["loc"] else "settings"
        raise ConfigError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as error:
        raise ConfigError(str(error).splitlines()[0]) from None
