"""Opens the graphs of a bundle in ONNX Runtime and checks that they are the graphs the runtime binds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from service.bundle import Bundle
from service.errors import BundleError, ConfigError
from service.graph_names import ENCODER_INPUTS, ENCODER_OUTPUTS, decoder_inputs, decoder_outputs
from service.runtime.settings import Provider, RuntimeSettings

_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""ONNX Runtime would merge Add and LayerNormalization into a node that takes several times as long on CPU."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """One session per graph, shared by the workers of a device: Run is thread-safe and releases the GIL."""

    encoder: ort.InferenceSession
    decoder: ort.InferenceSession


def open_sessions(bundle: Bundle, settings: RuntimeSettings) -> Sessions:
    """Load both graphs.

    Raises:
        ConfigError: when the provider is not in this ONNX Runtime.
        BundleError: when a graph does not load or is not the graph that the manifest describes.
    """
    if _PROVIDERS[settings.provider] not in ort.get_available_providers():
        raise ConfigError(f"this ONNX Runtime has no {settings.provider} provider")
    ort.disable_telemetry_events()  # it would try to keep a device id on disk
    manifest = bundle.manifest
    layers = manifest.dimensions.decoder_layers
    encoder = _open(bundle.encoder_path, settings)
    decoder = _open(bundle.decoder_path, settings)
    _check_names(encoder, "encoder", list(ENCODER_INPUTS), list(ENCODER_OUTPUTS))
    outputs = decoder_outputs(layers, alignment=manifest.alignment is not None)
    _check_names(decoder, "decoder", decoder_inputs(layers), outputs)
    return Sessions(encoder=encoder, decoder=decoder)


def _open(path: Path, settings: RuntimeSettings) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads_per_worker
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            path, options, providers=[_PROVIDERS[settings.provider]], disabled_optimizers=_SLOWER_FUSIONS
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise BundleError(f"{path.name} is not a graph that this ONNX Runtime can run") from error


def _check_names(session: ort.InferenceSession, graph: str, inputs: list[str], outputs: list[str]) -> None:
    found_inputs = {node.name for node in session.get_inputs()}
    found_outputs = {node.name for node in session.get_outputs()}
    if found_inputs != set(inputs) or found_outputs != set(outputs):
        odd = sorted((found_inputs ^ set(inputs)) | (found_outputs ^ set(outputs)))
        raise BundleError(f"the {graph} graph does not have the inputs and outputs it should: {', '.join(odd[:4])}")
