"""The rows on what is served: the models and how they translate, and the GPU they run on."""

from __future__ import annotations

from deploy.grafana.queries import SELECTOR, Panel, rate_by

MODELS = (
    Panel(
        title="Models served",
        unit="short",
        queries=(
            (
                f"count by (model, version, precision, provider) (dragoman_model_info{SELECTOR})",
                "{{model}} {{version}} {{precision}} {{provider}}",
            ),
        ),
        description="Replicas by model and version.",
    ),
    Panel(title="How sentences end", unit="short", queries=rate_by("reason", "dragoman_sequences_total")),
    Panel(
        title="Sentences to look at",
        unit="percentunit",
        queries=tuple(
            (
                f"sum(rate(dragoman_{name}_total{SELECTOR}[$__rate_interval]))"
                f" / sum(rate(dragoman_sequences_total{SELECTOR}[$__rate_interval]))",
                label,
            )
            for name, label in (
                ("truncations", "cut off"),
                ("fallbacks", "decoded again"),
                ("split_pieces", "pieces of long sentences"),
            )
        ),
    ),
    Panel(
        title="Unknown characters",
        unit="short",
        queries=(
            (f"sum by (model) (rate(dragoman_unknown_characters_total{SELECTOR}[$__rate_interval]))", "{{model}}"),
        ),
    ),
    Panel(
        title="Load time", unit="s", queries=((f"max by (model) (dragoman_model_load_seconds{SELECTOR})", "{{model}}"),)
    ),
    Panel(
        title="Models in memory",
        unit="short",
        queries=(
            ("sum by (state) (dragoman_models)", "{{state}}"),
            ("sum by (outcome) (increase(dragoman_model_loads_total[$__rate_interval]))", "loads: {{outcome}}"),
        ),
    ),
    Panel(
        title="Through a third language",
        unit="reqps",
        queries=rate_by("model", "dragoman_pivots_total"),
    ),
    Panel(
        title="Version of the service",
        unit="short",
        queries=(("count by (version) (dragoman_build_info)", "{{version}}"),),
    ),
)

GPU = (
    Panel(
        title="GPU memory in use",
        unit="percentunit",
        queries=(("dragoman_gpu_memory_used_bytes / dragoman_gpu_memory_bytes", "{{instance}} GPU {{device}}"),),
    ),
    Panel(
        title="GPU memory", unit="bytes", queries=(("dragoman_gpu_memory_used_bytes", "{{instance}} GPU {{device}}"),)
    ),
    Panel(title="GPU busy", unit="percentunit", queries=(("dragoman_gpu_busy_ratio", "{{instance}} GPU {{device}}"),)),
)
