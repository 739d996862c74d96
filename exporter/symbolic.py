"""ONNX operators that the exporter places itself while torch traces a module: attention, int8 products, selection.

Each function here becomes exactly one node of the graph. They have no arithmetic of their own in torch, so what they
compute is checked where the graph is compared with the PyTorch model. Operator definitions:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md and https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

Shape = Sequence[int | torch.SymInt]
Steps = tuple[Tensor, Tensor]
"""What one step of int8 keys and values is worth, by channel: (key_heads*K) each."""
MICROSOFT = "com.microsoft"


def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past: tuple[Tensor, Tensor],
    past_lengths: Tensor,
    *,
    heads: int,
    key_heads: int,
    steps: Steps | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend one query position per row over a cache whose rows have lengths of their own.

    Args:
        query: (R, 1, heads*K), or (R, 1, 3*heads*K) packed query, key and value when ``key`` is None.
        key: (R, 0 or 1, key_heads*K), the new position's; None when packed.
        value: as ``key``.
        past: keys and values (R, key_heads, capacity, K).
        past_lengths: (R) int32, valid positions after the new ones are written, less one.
        heads: query heads.
        key_heads: heads of the cache; each serves ``heads / key_heads`` query heads.
        steps: of a cache that is int8.

    Returns:
        The mixed values (R, 1, heads*K) and the cache with the new position written.
    """
    rows, _, capacity, head_size = past[0].shape
    total = torch.full((), capacity, dtype=torch.int32)
    output, keys, values = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::GroupQueryAttention",
        [query, key, value, past[0], past[1], past_lengths, total, *_after_total(steps)],
        attrs={"num_heads": heads, "kv_num_heads": key_heads, **_quantization(steps)},
        dtypes=[query.dtype, past[0].dtype, past[1].dtype],
        shapes=[(rows, 1, heads * head_size), past[0].shape, past[1].shape],
        version=1,
    )
    return output, keys, values


def _after_total(steps: Steps | None) -> list[Tensor | None]:
    """The inputs of a GroupQueryAttention node that follow the total length: five that are not used, and the steps."""
    return [] if steps is None else [None, None, None, None, None, *steps]


def _quantization(steps: Steps | None) -> dict[str, int | str]:
    if steps is None:
        return {}
    return {"kv_cache_bit_width": 8, "k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}


def cross_attention(
    query: Tensor, past: tuple[Tensor, Tensor], lengths: Tensor, *, heads: int, key_heads: int, steps: Steps | None
) -> tuple[Tensor, *tuple[Tensor, ...]]:
    """Attend one query position per row (R, 1, heads*K) over keys and values that are complete; lengths (R) int32.

    A cache that is int8 is returned too, unchanged: the operator asks for a place for it, which must be its own.
    """
    rows, _, capacity, head_size = past[0].shape
    total = torch.full((), capacity, dtype=torch.int32)
    empty = torch.zeros((rows, 0, key_heads * head_size), dtype=query.dtype)
    if steps is not None:
        return group_query_attention(
            query, empty, empty, past, lengths - 1, heads=heads, key_heads=key_heads, steps=steps
        )
    (output,) = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::GroupQueryAttention",
        [query, empty, empty, past[0], past[1], lengths - 1, total],
        attrs={"num_heads": heads, "kv_num_heads": key_heads},
        dtypes=[query.dtype],
        shapes=[(rows, 1, heads * head_size)],
        version=1,
    )
    return (output,)


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
    """Attend (B, S, heads*K) to keys and values of the same shape, of which the first ``lengths`` (B) int32 count."""
    (output,) = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::MultiHeadAttention",
        [query, key, value, None, lengths],
        attrs={"num_heads": heads},
        dtypes=[query.dtype],
        shapes=[query.shape],
        version=1,
    )
    return output


def quantize_linear(states: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Return ``states`` in the type of ``zero_point``: round(states / scale) + zero_point, saturated."""
    (quantized,) = torch.onnx.ops.symbolic_multi_out(
        "QuantizeLinear",
        [states, scale, zero_point],
        attrs={},
        dtypes=[zero_point.dtype],
        shapes=[states.shape],
        version=23,
    )
    return quantized


def matmul_integer_to_float(
    states: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor, zero_point: Tensor, bias: Tensor | None
) -> Tensor:
    """Multiply uint8 states (..., I) by int8 weight (I, O) with a scale per output; return float32 (..., O)."""
    (output,) = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::MatMulIntegerToFloat",
        [states, weight, scale, weight_scale, zero_point, None, bias],
        attrs={},
        dtypes=[torch.float32],
        shapes=[(*states.shape[:-1], weight.shape[1])],
        version=1,
    )
    return output


def top_k(values: Tensor, k: Tensor, count: int | torch.SymInt, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """Return the ``k`` (1) int64 best of the last axis of ``values``, best first, lowest index first among equals."""
    shape = (*values.shape[:-1], count)
    best, indices = torch.onnx.ops.symbolic_multi_out(
        "TopK",
        [values, k],
        attrs={"axis": -1, "largest": int(largest), "sorted": 1},
        dtypes=[values.dtype, torch.int64],
        shapes=[shape, shape],
        version=23,
    )
    return best, indices


def scatter(values: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Return ``values`` (R, V) with ``updates`` (R, n) at ``indices`` (R, n) of each row.

    The runtime does this in place, as it does not do ScatterND.
    """
    (output,) = torch.onnx.ops.symbolic_multi_out(
        "ScatterElements",
        [values, indices, updates],
        attrs={"axis": 1},
        dtypes=[values.dtype],
        shapes=[values.shape],
        version=23,
    )
    return output


def by_row(values: Tensor, rows: int | torch.SymInt) -> Tensor:
    """Return ``values`` (R * n) as (R, n); torch could not prove that they are equally many for each row."""
    first = torch.full((1,), rows, dtype=torch.int64)  # type: ignore[arg-type]  # its types know no SymInt
    shape = torch.cat([first, torch.tensor([-1])])
    (output,) = torch.onnx.ops.symbolic_multi_out(
        "Reshape",
        [values, shape],
        attrs={},
        dtypes=[values.dtype],
        shapes=[(rows, values.shape[0] // rows)],
        version=23,
    )
    return output


def swish(states: Tensor) -> Tensor:
    """Return ``states * sigmoid(states)`` as one node."""
    (output,) = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::QuickGelu",
        [states],
        attrs={"alpha": 1.0},
        dtypes=[states.dtype],
        shapes=[states.shape],
        version=1,
    )
    return output


def skip_layer_norm(states: Tensor, branch: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return the layer norm of ``states + branch`` (both (..., D)) as one node."""
    (output,) = torch.onnx.ops.symbolic_multi_out(
        f"{MICROSOFT}::SkipLayerNormalization",
        [states, branch, norm.weight, norm.bias],
        attrs={"epsilon": norm.eps},
        dtypes=[states.dtype],
        shapes=[states.shape],
        version=1,
    )
    return output


def divide(values: Tensor, divisor: int) -> Tensor:
    """Return integer ``values / divisor``, rounded towards zero; torch's own floor division traces to float nodes."""
    (output,) = torch.onnx.ops.symbolic_multi_out(
        "Div", [values, torch.tensor(divisor)], attrs={}, dtypes=[values.dtype], shapes=[values.shape], version=23
    )
    return output


def positive_size(k: Tensor) -> torch.SymInt:
    """Return the value of ``k`` (1) int64 as a size that is known only when the graph runs."""
    size = k.item()
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    return cast(torch.SymInt, size)
