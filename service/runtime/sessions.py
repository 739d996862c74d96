"""Opens the graphs of a bundle in ONNX Runtime and checks that they are the graphs the runtime binds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.bundle import Bundle
from service.errors import BundleError, ConfigError
from service.graph_names import (
    COPY_INPUTS,
    COPY_OUTPUTS,
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    FULL_ROWS,
    decoder_inputs,
    decoder_outputs,
    self_caches,
)
from service.huge_pages import use_huge_pages
from service.runtime.settings import Provider, RuntimeSettings

_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_CACHE_TYPES: dict[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int8)": np.dtype(np.int8),
}

_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""ONNX Runtime would merge Add and LayerNormalization into a node that takes several times as long on CPU."""

_SPIN_MICROSECONDS = "500"
"""How long a session's threads look out for work before they sleep: longer than the pause between two steps, and no
longer, as the threads of the encoder would else hold the cores that the decoder's want, and the other way round."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """One session per graph, shared by the workers of a device: Run is thread-safe and releases the GIL.

    `lone_decoder` is the decoder with more threads, for a worker that is alone: ONNX Runtime fixes a session's threads
    when it opens. `cache_dtype` is the type in which the graphs keep keys and values; `picks_full_rows` says whether a
    step can be told which whole rows of log-probabilities to return, as older bundles cannot.
    """

    encoder: ort.InferenceSession
    decoder: ort.InferenceSession
    lone_decoder: ort.InferenceSession | None
    copy_positions: ort.InferenceSession | None
    cache_dtype: np.dtype[np.generic]
    picks_full_rows: bool


def open_sessions(bundle: Bundle, settings: RuntimeSettings) -> Sessions:
    """Load the graphs of a bundle.

    Raises:
        ConfigError: when the provider is not in this ONNX Runtime, or finds no device.
        BundleError: when a graph does not load or is not the graph that the manifest describes.
    """
    if _PROVIDERS[settings.provider] not in ort.get_available_providers():
        raise ConfigError(f"this ONNX Runtime has no {settings.provider} provider")
    ort.disable_telemetry_events()  # it would try to keep a device id on disk
    if settings.provider == "cuda":
        ort.preload_dlls()  # CUDA's libraries may lie in Python packages, where the loader does not look
    manifest = bundle.manifest
    layers = manifest.dimensions.decoder_layers
    threads = settings.threads_per_worker
    encoder = _open(bundle.encoder_path, settings, threads)
    decoder = _open(bundle.decoder_path, settings, threads)
    lone_decoder = _open(bundle.decoder_path, settings, settings.lone_threads) if settings.has_lone_decoder else None
    copy_path = bundle.copy_positions_path
    copy_positions = None if copy_path is None else _open(copy_path, settings, threads)
    _check_names(encoder, "encoder", list(ENCODER_INPUTS), list(ENCODER_OUTPUTS))
    cache_dtype = _cache_dtype(decoder)
    outputs = decoder_outputs(
        layers, alignment=manifest.alignment is not None, int8_caches=cache_dtype == np.dtype(np.int8)
    )
    picks_full_rows = any(node.name == FULL_ROWS for node in decoder.get_inputs())
    inputs = [name for name in decoder_inputs(layers) if name != FULL_ROWS or picks_full_rows]
    _check_names(decoder, "decoder", inputs, outputs)
    if copy_positions is not None:
        _check_names(copy_positions, "copying", list(COPY_INPUTS), list(COPY_OUTPUTS))
    use_huge_pages()
    return Sessions(
        encoder=encoder,
        decoder=decoder,
        lone_decoder=lone_decoder,
        copy_positions=copy_positions,
        cache_dtype=cache_dtype,
        picks_full_rows=picks_full_rows,
    )


def _open(path: Path, settings: RuntimeSettings, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = (
        settings.provider == "cuda"
    )  # for each new shape it would keep a block as large as a step
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    options.log_severity_level = 3
    provider: str | tuple[str, dict[str, str]] = _PROVIDERS[settings.provider]
    optimizers = _SLOWER_FUSIONS
    if settings.provider == "cuda":
        options.use_deterministic_compute = settings.mode == "deterministic"
        provider = (_PROVIDERS["cuda"], {"device_id": str(settings.device_id)})
        optimizers = []
    try:
        session = ort.InferenceSession(path, options, providers=[provider], disabled_optimizers=optimizers)
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise BundleError(f"{path.name} is not a graph that this ONNX Runtime can run") from error
    if _PROVIDERS[settings.provider] not in session.get_providers():  # it falls back to the CPU without an error
        raise ConfigError(f"ONNX Runtime cannot use {settings.provider} device {settings.device_id} on this machine")
    return session


def _cache_dtype(decoder: ort.InferenceSession) -> np.dtype[np.generic]:
    types = {node.name: node.type for node in decoder.get_inputs()}
    found = types.get(self_caches(1)[0], "nothing")
    if found not in _CACHE_TYPES:
        raise BundleError(f"the decoder graph keeps its keys and values as {found}, which is not known here")
    return _CACHE_TYPES[found]


def _check_names(session: ort.InferenceSession, graph: str, inputs: list[str], outputs: list[str]) -> None:
    found_inputs = {node.name for node in session.get_inputs()}
    found_outputs = {node.name for node in session.get_outputs()}
    if found_inputs != set(inputs) or found_outputs != set(outputs):
        odd = sorted((found_inputs ^ set(inputs)) | (found_outputs ^ set(outputs)))
        raise BundleError(f"the {graph} graph does not have the inputs and outputs it should: {', '.join(odd[:4])}")
