"""`python -m examples.demo`: export the bundled model, serve it, translate, show its attention and its latencies."""

import argparse
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from dragoman.v1 import translation_pb2 as pb
from examples.latency import read_histogram
from loadtests.server_process import FREE_PORTS, ServerProcess
from loadtests.termination import run_program
from loadtests.tied import tied
from service.bundle import Bundle
from service.client import TranslationClient, TranslationError
from service.client.heatmap import DrawingError, terminal_heatmap, write_png
from service.errors import UnavailableError

CHECKPOINT = Path("models/en-defres")
OUTPUT = Path("bundles")
LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish"}
SENTENCES = (
    "I love you.",
    "Good morning! How are you today?",
    "Where is the nearest train station?",
    "She has been reading this book for three days.",
    "I would like a cup of coffee, please.",
    "The children are playing in the garden.",
    "It will probably rain tomorrow.",
    "He forgot his keys at home again.",
    "We have to leave before it gets dark.",
    "My brother works in a hospital.",
    "Can you tell me what time it is?",
    "They bought a new house last year.",
)
# A short proof.
DEMO_EXPORT = ("--proof-sentences", "64")
PHASES = ("request", "queue", "tokenize", "encode", "decode", "detokenize")
QUANTILES = (0.5, 0.95, 0.99)
STEPS = 6
ALIGNED_SENTENCE = "She has been reading this book for three days."
WIDEST_TEXT = 100
START_SECONDS = 60.0


class DemoError(Exception):
    """The demo cannot go on; the message says why in one line."""


def begin(number: int, title: str) -> None:
    """Announce step ``number``, so that a person who waits sees where we are."""
    print(f"\n[{number}/{STEPS}] {title}", flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="checkpoint to export (%(default)s)")
    parser.add_argument(
        "--precision", choices=("int8", "fp32"), default="int8", help="of the exported graphs (%(default)s)"
    )
    parser.add_argument("--bundle", type=Path, help="serve this bundle and export nothing")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder for the bundle, log and picture (%(default)s)"
    )
    parser.add_argument("--stay", action="store_true", help="go on serving after step 5, for the page, until Ctrl-C")
    return parser.parse_args(arguments)


def export(checkpoint: Path, precision: str, bundle: Path) -> None:
    """Run the exporter as a user would; its own progress and errors stay visible."""
    if not checkpoint.is_dir():
        raise DemoError(f"there is no checkpoint at {checkpoint}")
    command = [sys.executable, "-m", "exporter", "export", "--checkpoint", str(checkpoint), *DEMO_EXPORT]
    started = time.monotonic()
    code = subprocess.run(tied([*command, "--precision", precision, "--output", bundle]), check=False).returncode
    if code != 0:
        raise DemoError(f"the export ended with exit code {code}")
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    print(f"      {bundle}: {size / 1e6:.1f} MB in {time.monotonic() - started:.0f} s")


def translate(client: TranslationClient) -> None:
    """Send every sentence for every language as a call of its own, all at once, and print what comes back."""
    calls = [(sentence, target) for sentence in SENTENCES for target in LANGUAGES]
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        answers = list(pool.map(lambda call: client.translate([call[0]], source="en", target=call[1]), calls))
    seconds = time.monotonic() - started
    for (sentence, target), answer in zip(calls, answers, strict=True):
        if target == next(iter(LANGUAGES)):
            print(f"      {sentence}")
        print(f"        {target}  {shortened(answer.translations[0].text)}")
    print(f"      {len(calls)} calls at once, {seconds:.2f} s, model {answers[0].model} ({answers[0].model_version})")


def shortened(text: str) -> str:
    """``text`` as it fits a line."""
    return text if len(text) <= WIDEST_TEXT else text[: WIDEST_TEXT - 1] + "…"


def show_alignment(client: TranslationClient, bundle: Path, picture: Path) -> None:
    """Ask for one translation's alignment; draw it here and as a PNG, and say how far to trust the heads it is from."""
    if not client.list_models()[0].supports_alignments:
        print("      this model has no attention heads that align, so there is nothing to draw")
        return
    options = pb.TranslationOptions(return_alignments=True)
    answer = client.translate([ALIGNED_SENTENCE], source="en", target="de", options=options)
    alignment = answer.translations[0].sentences[0].alignment
    if not alignment.weights:
        raise DemoError("the answer holds no alignment")
    print("\n".join(f"      {line}" for line in terminal_heatmap(alignment).splitlines()))
    write_png(alignment, picture)
    found = Bundle.load(bundle).manifest.alignment
    if found is None:
        raise DemoError("the bundle says nothing of its alignment")
    print(f"      drawn from {found}:")
    print(f"      right for {found.accuracy:.0%} of the digits and names that stand in both texts")
    print(f"      also in {picture}")


def server_of(bundle: Path, log: Path) -> ServerProcess:
    """The service with its page, not yet started; what it logs goes to ``log``."""
    command = [sys.executable, "-m", "service", "--bundle", str(bundle.absolute()), *FREE_PORTS, "--page"]
    return ServerProcess(command, log=log, start_seconds=START_SECONDS)


def print_latencies(metrics_url: str) -> None:
    """The quantiles of each phase, from the histograms of the server's Prometheus page."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:
        page = answer.read().decode("utf-8")
    print(f"      {'milliseconds':<12} {'p50':>8} {'p95':>8} {'p99':>8} {'count':>7}")
    for phase in PHASES:
        histogram = read_histogram(page, f"dragoman_{phase}_seconds")
        if not histogram.total:
            raise DemoError(f"/metrics has no observations of dragoman_{phase}_seconds")
        cells = " ".join(f"{1e3 * (histogram.quantile(share) or 0.0):8.1f}" for share in QUANTILES)
        print(f"      {phase:<12} {cells} {histogram.total:>7.0f}")


def demonstrate(arguments: argparse.Namespace) -> None:
    """The six steps. Raises DemoError, UnavailableError or TranslationError."""
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    begin(1, "Export: trace the model to ONNX, prove it against PyTorch, write a bundle")
    bundle: Path = arguments.bundle or output / f"{arguments.checkpoint.name}-{arguments.precision}"
    if arguments.bundle:
        print(f"      not needed, serving {bundle}")
    else:
        export(arguments.checkpoint, arguments.precision, bundle)
    begin(2, "Serve: python -m service, a process of its own")
    with server_of(bundle, output / "demo-server.log") as server:
        metrics_url = server.metrics_url or ""
        page_url = metrics_url.removesuffix("metrics")
        grpc_port, metrics_port = (urlsplit(url).port for url in (f"//{server.address}", metrics_url))
        print(f"      gRPC on port {grpc_port}, metrics on port {metrics_port}")
        print(f"      a page to try it in a browser: {page_url}")
        with TranslationClient(server.address) as client:
            begin(3, f"Translate: {len(SENTENCES)} sentences into {', '.join(LANGUAGES.values())}, over gRPC")
            translate(client)
            begin(4, "Look: which source tokens (columns) each target token (rows) came from")
            show_alignment(client, bundle, output / "demo-alignment.png")
        begin(5, "Measure: latency quantiles, read back from /metrics")
        print_latencies(metrics_url)
        if arguments.stay:
            print(f"      serving until Ctrl-C; the page: {page_url}", flush=True)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        begin(6, "Stop: SIGTERM")
        code = server.stop()
        if code != 0:
            raise DemoError(f"the server ended with exit code {code}: {server.last_words()}")
        print("      the server finished its work and ended with exit code 0")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: everything worked; 1: something did not, and one line says what."""
    parsed = parse_arguments(arguments)
    try:
        demonstrate(parsed)
    except (DemoError, UnavailableError, TranslationError, DrawingError, OSError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
