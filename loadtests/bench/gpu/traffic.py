"""What a run of a graph must at least move and compute, whatever kernels do it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from service.bundle import Bundle, Dimensions
from service.errors import ConfigError

_ITEM_BYTES = {"fp32": 4, "fp16": 2}
_PRODUCTS = ("MatMul", "Gemm")
_PASSED_THROUGH = ("Transpose", "Cast")


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes of a device's memory read or written, and operations (a multiplication and an addition are two)."""

    bytes: float
    operations: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes


def product_weights(path: Path) -> int:
    """Count the weights that the products of a graph multiply with, those used twice twice."""
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    origin = {node.output[0]: node.input[0] for node in graph.node if node.op_type in _PASSED_THROUGH}
    count = 0
    for node in graph.node:
        for name in node.input[:2] if node.op_type in _PRODUCTS else ():
            while name in origin:
                name = origin[name]
            count += sizes.get(name, 0)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWork:
    """The work of a bundle's two graphs.

    Counted: the products with weights, each weight read once a run; attention over the valid positions; keys and values
    read and written. Left out: activations, which may stay on the chip, embeddings, norms, the search.
    """

    dimensions: Dimensions
    item_bytes: int
    encoder_weights: int
    decoder_weights: int

    @staticmethod
    def of(bundle: Bundle) -> GraphWork:
        """Count the weights of a bundle's graphs; raises ConfigError for int8, whose bytes are of several sizes."""
        precision = bundle.manifest.precision
        if precision not in _ITEM_BYTES:
            raise ConfigError(f"{bundle.directory} is {precision}: rooflines are for fp16 and fp32")
        return GraphWork(
            dimensions=bundle.manifest.dimensions,
            item_bytes=_ITEM_BYTES[precision],
            encoder_weights=product_weights(bundle.encoder_path),
            decoder_weights=product_weights(bundle.decoder_path),
        )

    @property
    def _position(self) -> int:
        """Numbers in the keys and values of one position, all decoder layers together."""
        return 2 * self.dimensions.decoder_layers * self.dimensions.d_model

    def step(self, *, rows: int, past_tokens: int, source_tokens: int) -> Work:
        """One greedy decode step of rows that have each so many tokens behind them."""
        read = past_tokens + source_tokens
        moved = self.decoder_weights + rows * (read + 1) * self._position
        products = 2 * rows * self.decoder_weights
        attention = 2 * rows * (read + 1) * self._position
        return Work(bytes=self.item_bytes * moved, operations=products + attention)

    def encoding(self, *, sentences: int, source_tokens: int) -> Work:
        """One run of the encoder, its keys and values for the decoder written."""
        tokens = sentences * source_tokens
        dimensions = self.dimensions
        moved = self.encoder_weights + tokens * self._position
        attention = 4 * tokens * source_tokens * dimensions.encoder_layers * dimensions.d_model
        return Work(bytes=self.item_bytes * moved, operations=2 * tokens * self.encoder_weights + attention)
