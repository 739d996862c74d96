"""What the Grafana dashboard shows, row by row; generate_dashboard.py makes Grafana's JSON of it."""

from __future__ import annotations

from deploy.grafana.queries import SELECTOR, Panel, by_length_class, mean, quantiles, rate_by, share_of
from deploy.prometheus.objectives import AVAILABILITY, LATENCY, PERIOD_DAYS

TRAFFIC = (
    Panel(title="Calls by code", unit="reqps", queries=rate_by("code", "dragoman_requests_total")),
    Panel(
        title="Calls in flight",
        unit="short",
        queries=(("sum by (method) (dragoman_requests_in_flight)", "{{method}}"),),
    ),
    Panel(
        title="Faults of the service",
        unit="percentunit",
        queries=(
            ("dragoman:errors:ratio_5m", "5 minutes"),
            ("dragoman:errors:ratio_6h", "6 hours"),
            (f"vector({1 - AVAILABILITY:g})", "objective"),
        ),
        description=f"Of all calls; {AVAILABILITY:.1%} must not.",
    ),
    Panel(
        title="Calls slower than their objective",
        unit="percentunit",
        queries=(("dragoman:slow_calls:ratio_5m", "{{length_class}}"),),
        description="; ".join(
            f"{each.length_class}: at most {1 - each.target:.0%} over {each.seconds:g} s" for each in LATENCY
        ),
    ),
    Panel(
        title="Error budget left",
        unit="percentunit",
        queries=(
            (f"1 - avg_over_time(dragoman:errors:ratio_5m[{PERIOD_DAYS}d]) / {1 - AVAILABILITY:g}", "availability"),
            *(
                (
                    f'1 - avg_over_time(dragoman:slow_calls:ratio_5m{{length_class="{each.length_class}"}}'
                    f"[{PERIOD_DAYS}d]) / {1 - each.target:g}",
                    f"latency, {each.length_class}",
                )
                for each in LATENCY
            ),
        ),
        description=f"Of the last {PERIOD_DAYS} days, every five minutes counted alike.",
    ),
    Panel(
        title="Turned away and given up",
        unit="reqps",
        queries=(
            *rate_by("reason", "dragoman_refusals_total"),
            ("sum(rate(dragoman_cancellations_total[$__rate_interval]))", "cancelled by the client"),
        ),
        description="Sentences refused, by reason (bulk work tries again by itself), and calls cancelled.",
    ),
    Panel(
        title="Characters by caller's token",
        unit="short",
        queries=(("sum by (token) (rate(dragoman_token_characters_total[$__rate_interval]))", "{{token}}"),),
    ),
    Panel(
        title="Allowances used up",
        unit="reqps",
        queries=(
            ("sum by (token, limit) (rate(dragoman_token_refusals_total[$__rate_interval]))", "{{token}}: {{limit}}"),
        ),
    ),
    Panel(
        title="Time to a refusal, p99",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.99,"
                " sum by (le, method) (rate(dragoman_refusal_seconds_bucket[$__rate_interval])))",
                "{{method}}",
            ),
        ),
    ),
)

LATENCY_BY_PHASE = (
    Panel(title="p50 by length", unit="s", queries=by_length_class("p50")),
    Panel(title="p95 by length", unit="s", queries=by_length_class("p95")),
    Panel(title="p99 by length", unit="s", queries=by_length_class("p99")),
    Panel(
        title="Mean of each phase",
        unit="s",
        queries=tuple(
            (mean(f"dragoman_{phase}_seconds"), phase)
            for phase in ("queue", "tokenize", "encode", "decode", "detokenize")
        ),
    ),
    Panel(title="Queue", unit="s", queries=quantiles("dragoman_queue_seconds", 0.5, 0.95, 0.99)),
    Panel(title="First token", unit="s", queries=quantiles("dragoman_first_token_seconds", 0.5, 0.95, 0.99)),
    Panel(title="All calls", unit="s", queries=quantiles("dragoman_request_seconds", 0.5, 0.95, 0.99), exemplars=True),
    Panel(
        title="Time to refuse",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.95,"
                " sum by (le, method) (rate(dragoman_refusal_seconds_bucket[$__rate_interval])))",
                "{{method}} p95",
            ),
        ),
        description="Calls that are turned away should learn it at once.",
    ),
    Panel(
        title="Left before the deadline",
        unit="s",
        queries=(
            (
                "histogram_quantile(0.05,"
                " sum by (le) (rate(dragoman_deadline_slack_seconds_bucket[$__rate_interval])))",
                "p5",
            ),
        ),
    ),
)

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

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Traffic and objectives", TRAFFIC),
    ("Latency by phase", LATENCY_BY_PHASE),
    ("Batching efficiency", BATCHING),
    ("Capacity", CAPACITY),
    ("Models", MODELS),
    ("GPU", GPU),
)
