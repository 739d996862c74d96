"""Values of a server's metrics page."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

PAGE_SECONDS = 5.0


def read_metrics(url: str) -> dict[str, float]:
    """The sum over all labels of each sample of the page, by the sample's name. Raises OSError."""
    with urllib.request.urlopen(url, timeout=PAGE_SECONDS) as page:
        text = page.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums
