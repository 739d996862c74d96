"""The rows on the engine: how well it batches, and what is left of slots, memory and processor."""

from __future__ import annotations

from deploy.grafana.queries import SELECTOR, Panel, mean, quantiles, rate_by, share_of

BATCHING = (
    Panel(
        title="Rows per step",
        unit="short",
        queries=((mean("dragoman_step_rows"), "mean"), *quantiles("dragoman_step_rows", 0.95)),
        description="How many hypotheses share one decode step.",
    ),
    Panel(
        title="Parts of a step",
        unit="s",
        queries=(
            (
                f"sum by (phase) (rate(dragoman_step_seconds_sum{SELECTOR}[$__rate_interval]))"
                f" / sum by (phase) (rate(dragoman_step_seconds_count{SELECTOR}[$__rate_interval]))",
                "{{phase}}",
            ),
        ),
    ),
    Panel(
        title="Padding in the encoder",
        unit="percentunit",
        queries=((mean("dragoman_encoder_padding_ratio"), "mean"), *quantiles("dragoman_encoder_padding_ratio", 0.95)),
    ),
    Panel(
        title="Bytes copied per step",
        unit="bytes",
        queries=(
            (
                f"sum(rate(dragoman_copied_bytes_total{SELECTOR}[$__rate_interval]))"
                f" / sum(rate(dragoman_step_rows_count{SELECTOR}[$__rate_interval]))",
                "keys and values that beams moved",
            ),
        ),
    ),
    Panel(
        title="Encoder",
        unit="short",
        queries=(
            (f"sum(rate(dragoman_encoder_tokens_total{SELECTOR}[$__rate_interval]))", "tokens/s"),
            (f"sum(rate(dragoman_encoder_padding_tokens_total{SELECTOR}[$__rate_interval]))", "padding/s"),
        ),
    ),
    Panel(
        title="Sentences from the cache",
        unit="percentunit",
        queries=(
            (
                f"sum by (result) (rate(dragoman_cache_lookups_total{SELECTOR}[$__rate_interval]))"
                f" / ignoring (result) group_left sum(rate(dragoman_cache_lookups_total{SELECTOR}[$__rate_interval]))",
                "{{result}}",
            ),
        ),
    ),
    Panel(
        title="Tokens",
        unit="short",
        queries=(
            (f"sum(rate(dragoman_source_tokens_total{SELECTOR}[$__rate_interval]))", "source/s"),
            (f"sum(rate(dragoman_target_tokens_total{SELECTOR}[$__rate_interval]))", "target/s"),
            (f"sum(rate(dragoman_decoded_tokens_total{SELECTOR}[$__rate_interval]))", "decoded/s"),
        ),
    ),
    Panel(
        title="Rows that needed the whole vocabulary",
        unit="short",
        queries=((f"sum(rate(dragoman_full_rows_total{SELECTOR}[$__rate_interval]))", "rows/s"),),
    ),
)

CAPACITY = (
    Panel(
        title="Slots in use",
        unit="percentunit",
        queries=(
            (share_of("dragoman_row_slots_used", "dragoman_row_slots"), "rows"),
            (share_of("dragoman_sentence_slots_used", "dragoman_sentence_slots"), "sentences"),
        ),
    ),
    Panel(
        title="Waiting",
        unit="short",
        queries=(
            (f"sum(dragoman_queue_sequences{SELECTOR})", "sentences"),
            (f"sum(dragoman_queue_tokens{SELECTOR})", "tokens"),
            (f"dragoman:queue_tokens:per_replica{SELECTOR}", "tokens per replica"),
        ),
        description="Autoscaling follows the tokens per replica.",
    ),
    Panel(
        title="Replicas that answer",
        unit="short",
        queries=(('sum(up{job=~".*dragoman.*"})', "up"),),
    ),
    Panel(
        title="Memory",
        unit="bytes",
        queries=(
            ('process_resident_memory_bytes{job=~".*dragoman.*"}', "{{instance}}"),
            ("max(dragoman_memory_limit_bytes)", "limit"),
            ("max(dragoman_planned_memory_bytes)", "planned for models"),
            ("max(dragoman_cache_bytes)", "cached translations"),
        ),
    ),
    Panel(
        title="Processor",
        unit="short",
        queries=(('rate(process_cpu_seconds_total{job=~".*dragoman.*"}[$__rate_interval])', "{{instance}}"),),
        description="Cores in use.",
    ),
    Panel(title="Bulk items", unit="short", queries=rate_by("code", "dragoman_bulk_items_total")),
)
