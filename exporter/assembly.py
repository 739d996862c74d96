"""Trace a checkpoint's two graphs for a bundle and see to it that every attention is one fused node."""

from __future__ import annotations

import dataclasses

from exporter.attention_forms import FusedAttention, PlainAttention
from exporter.decoder_graph import AlignmentHead, DecoderStepGraph
from exporter.encoder_graph import EncoderGraph
from exporter.export_options import ExportOptions
from exporter.node_forms import NodeForms
from exporter.packaging import Contents, fused_attention
from exporter.presets import PRESETS, graph_precision
from exporter.study import Study, Subject
from exporter.trace import TracedGraph, trace_decoder, trace_encoder
from service.errors import ExportError


def contents_of(
    subject: Subject, options: ExportOptions, studied: Study | None, nodes: NodeForms | None = None
) -> Contents:
    """Trace both graphs; where nothing was ``studied`` they have no alignments and cannot be int8.

    ``nodes`` are the preset's own where None are given.

    Raises:
        ExportError: when an attention is not one fused node.
    """
    model = subject.checkpoint.model
    precision = graph_precision(options.precision, studied.scales if studied else None)
    attention = FusedAttention() if options.fused else PlainAttention()
    nodes = dataclasses.replace(nodes or PRESETS[options.precision].nodes, attention=attention)
    alignment = studied.heads.best(required=options.alignment_accuracy) if studied else None
    heads = [AlignmentHead(each.layer, each.head) for each in alignment.heads] if alignment else []
    encoder = trace_encoder(EncoderGraph(model, precision, nodes))
    decoder = trace_decoder(DecoderStepGraph(model, precision, nodes, heads), model.config, precision.cache_dtype)
    if options.fused:
        check_fused(encoder, model.config.encoder_layers)
        check_fused(decoder, 3 * model.config.decoder_layers)
    return Contents(
        checkpoint=subject.checkpoint,
        tokenizer_directory=subject.directory,
        precision=options.precision,
        encoder=encoder,
        decoder=decoder,
        alignment=alignment,
    )


def check_fused(graph: TracedGraph, expected: int) -> None:
    """Refuse a graph whose attention is not ``expected`` fused nodes and nothing else.

    Raises:
        ExportError: with both numbers.
    """
    operators = graph.operators()
    fused, softmax = fused_attention(operators), operators.get("Softmax", 0)
    if fused != expected or softmax:
        raise ExportError(
            f"the {graph.name} has {fused} fused attention nodes and {softmax} loose ones, expected {expected}"
        )
