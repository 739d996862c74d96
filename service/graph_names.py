"""Names of the inputs and outputs of the exported graphs, shared by the exporter and the runtime that binds them."""

from __future__ import annotations

INPUT_IDS = "input_ids"
LENGTHS = "lengths"
CROSS = "cross"

PAST_LENGTHS = "past_lengths"
NARROW_ROWS = "narrow_rows"
NARROW_LENGTHS = "narrow_lengths"
WIDE_ROWS = "wide_rows"
WIDE_LENGTHS = "wide_lengths"
LANE = "lane"
BANS = "bans"
K = "k"
FULL_ROWS = "full_rows"
TOP_IDS = "top_ids"
TOP_LOG_PROBS = "top_log_probs"
LOG_PROBS = "log_probs"
ALIGNMENT_QUERY = "alignment_query"

LANES = 4
"""How many rows (beams) of one wide sentence share its cross-attention keys and values."""

CHUNK = 128
"""The padded vocabulary is a multiple of this; the selection looks at the best entry of each such chunk first."""

ENCODER_INPUTS = (INPUT_IDS, LENGTHS)
ENCODER_OUTPUTS = (CROSS,)

COPY_SOURCE = "source"
COPY_TARGET = "target"
COPY_SOURCE_STARTS = "source_starts"
COPY_TARGET_STARTS = "target_starts"
COPY_SOURCE_PLANES = "source_planes"
COPY_TARGET_PLANES = "target_planes"
COPY_TARGET_OUT = "target_out"

COPY_INPUTS = (
    COPY_SOURCE,
    COPY_TARGET,
    COPY_SOURCE_STARTS,
    COPY_TARGET_STARTS,
    COPY_SOURCE_PLANES,
    COPY_TARGET_PLANES,
)
COPY_OUTPUTS = (COPY_TARGET_OUT,)
COPY_WORD_BYTES = 8
"""The copy graph moves words of this many bytes, whatever the caches hold, so one graph serves every precision."""


def self_caches(layers: int) -> list[str]:
    """Names of the self-attention buffers that a decode step reads: key and value of each layer."""
    return [name for layer in range(layers) for name in (f"self_key_{layer}", f"self_value_{layer}")]


def self_caches_out(layers: int) -> list[str]:
    """Names of the same buffers as outputs; the runtime binds them to the memory of the inputs."""
    return [name for layer in range(layers) for name in (f"self_key_out_{layer}", f"self_value_out_{layer}")]


def narrow_cross(layers: int) -> list[str]:
    """Names of the cross-attention keys and values of sentences with one row."""
    return [name for layer in range(layers) for name in (f"narrow_key_{layer}", f"narrow_value_{layer}")]


def wide_cross(layers: int) -> list[str]:
    """Names of the cross-attention keys and values of sentences with up to ``LANES`` rows."""
    return [name for layer in range(layers) for name in (f"wide_key_{layer}", f"wide_value_{layer}")]


def narrow_cross_out(layers: int) -> list[str]:
    """Names of `narrow_cross` as outputs where they are int8: the operator wants a place for what it leaves."""
    return [f"{name}_out" for name in narrow_cross(layers)]


def wide_cross_out(layers: int) -> list[str]:
    """As `narrow_cross_out`, for `wide_cross`."""
    return [f"{name}_out" for name in wide_cross(layers)]


def decoder_inputs(layers: int) -> list[str]:
    """All inputs of a decode step, in the graph's order."""
    return [
        INPUT_IDS,
        PAST_LENGTHS,
        *self_caches(layers),
        NARROW_ROWS,
        NARROW_LENGTHS,
        *narrow_cross(layers),
        WIDE_ROWS,
        WIDE_LENGTHS,
        *wide_cross(layers),
        LANE,
        BANS,
        K,
        FULL_ROWS,
    ]


def decoder_outputs(layers: int, *, alignment: bool, int8_caches: bool) -> list[str]:
    """All outputs of a decode step, in the graph's order."""
    head = [ALIGNMENT_QUERY] if alignment else []
    cross = [*narrow_cross_out(layers), *wide_cross_out(layers)] if int8_caches else []
    return [TOP_IDS, TOP_LOG_PROBS, LOG_PROBS, *head, *self_caches_out(layers), *cross]
