"""`python -m service.client`: translates from the shell; exit code 1 and one line on standard error if it cannot."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dragoman.v1 import translation_pb2 as pb
from service.client.bulk_file import BulkFile, translate_file
from service.client.credentials import CredentialsError, read_token, tls_credentials
from service.client.errors import TranslationError
from service.client.heatmap import DrawingError, terminal_heatmap, write_png
from service.client.requests import DEFAULT_TIMEOUT_SECONDS, translate_request
from service.client.sync import TranslationClient

# Never an option: every process of a machine can read the others' command lines.
TOKEN_VARIABLE = "DRAGOMAN_TOKEN"
# Set by Kubernetes in the pods of an Indexed Job.
SHARD_VARIABLE = "JOB_COMPLETION_INDEX"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m service.client", description="Translate from the shell.")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="texts to translate; none: standard input as one text")
    parser.add_argument("--address", default="127.0.0.1:50051", help="gRPC target (default: %(default)s)")
    parser.add_argument("--source", metavar="CODE", help="language of the texts, such as en")
    parser.add_argument("--target", metavar="CODE", help="language wanted, such as de")
    parser.add_argument("--model", default="", help="model id (default: the pair's default)")
    parser.add_argument("--beam-size", type=int, help="hypotheses searched side by side (default: 1, greedy)")
    parser.add_argument("--num-hypotheses", type=int, help="hypotheses returned (default: 1)")
    parser.add_argument("--max-output-tokens", type=int, help="limit per sentence (default: the model's)")
    parser.add_argument("--temperature", type=float, help="sample instead of searching")
    parser.add_argument("--seed", type=int, help="make sampling repeatable")
    parser.add_argument("--stream", action="store_true", help="print words as they come")
    parser.add_argument("--show-alignment", action="store_true", help="print a heat map of the attention")
    parser.add_argument(
        "--heatmap", type=Path, metavar="FILE.png", help="draw the first sentence's attention (needs matplotlib)"
    )
    parser.add_argument("--timings", action="store_true", help="print where the time went, on standard error")
    bulk = parser.add_argument_group("a file, line by line, as bulk work")
    bulk.add_argument("--bulk", type=Path, metavar="FILE", help="translate its lines; goes on where it was stopped")
    bulk.add_argument("--bulk-output", type=Path, metavar="PREFIX", help="of the file for each shard (default: FILE)")
    bulk.add_argument("--shards", type=int, default=1, help="take every n-th line only (default: %(default)s)")
    bulk.add_argument("--shard", type=int, help=f"which of them, from 0 (default: the variable {SHARD_VARIABLE}, or 0)")
    parser.add_argument("--list-models", action="store_true", help="print what the server offers, and stop")
    parser.add_argument("--tls", action="store_true", help="speak TLS; --ca and --certificate imply it")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="trust these authorities (default: the usual ones)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="show this certificate chain (mTLS)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key of --certificate")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file of a bearer token (default: the variable {TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_SECONDS,
        help="seconds for a call, not for --bulk (%(default)s)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: done; 1: the call failed; 2: wrong use; 3: some lines of a file could not be translated."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if not parsed.list_models and not (parsed.source and parsed.target):
        parser.error("--source and --target are required")
    if parsed.stream and len(parsed.text) > 1:
        parser.error("--stream takes one text")
    try:
        with _client(parsed) as client:
            if parsed.list_models:
                _list_models(client, parsed.timeout)
            elif parsed.bulk is not None:
                return _translate_file(client, parsed, parser)
            elif parsed.stream:
                _stream(client, parsed)
            else:
                _translate(client, parsed)
    except TranslationError as error:
        suffix = f" (request {error.request_id})" if error.request_id else ""
        print(f"client: {error.code.name}: {error}{suffix}", file=sys.stderr)
        return 1
    except (CredentialsError, DrawingError) as error:
        print(f"client: {error}", file=sys.stderr)
        return 1
    return 0


def _client(parsed: argparse.Namespace) -> TranslationClient:
    """Raises CredentialsError."""
    credentials = None
    if parsed.tls or parsed.ca or parsed.certificate or parsed.key:
        credentials = tls_credentials(ca=parsed.ca, certificate=parsed.certificate, key=parsed.key)
    token = os.environ.get(TOKEN_VARIABLE) if parsed.token_file is None else read_token(parsed.token_file)
    return TranslationClient(parsed.address, credentials=credentials, token=token)


def _translate(client: TranslationClient, parsed: argparse.Namespace) -> None:
    response = client.translate(
        parsed.text or [sys.stdin.read()],
        source=parsed.source,
        target=parsed.target,
        model=parsed.model,
        options=_options(parsed),
        timeout_seconds=parsed.timeout,
    )
    for translation in response.translations:
        print(translation.text)
        for hypothesis in translation.hypotheses:
            print(f"  {hypothesis.score:9.4f}  {hypothesis.text}")
    _report(response.translations, response.timings, parsed)


def _translate_file(client: TranslationClient, parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    shard = int(os.environ.get(SHARD_VARIABLE, 0)) if parsed.shard is None else parsed.shard
    if not 0 <= shard < parsed.shards:
        parser.error(f"--shard is 0 to {parsed.shards - 1}, not {shard}")
    if not parsed.bulk.is_file():
        parser.error(f"--bulk: {parsed.bulk} is not a file")
    request = translate_request(
        [], source=parsed.source, target=parsed.target, model=parsed.model, options=_options(parsed)
    )
    output = parsed.bulk_output or parsed.bulk
    job = BulkFile(source=parsed.bulk, output=output, request=request, shard=shard, shards=parsed.shards)
    failed = translate_file(client, job)
    print(f"client: {job.translations}" + (f"; {failed} lines failed, see {job.errors}" if failed else ""))
    return 3 if failed else 0


def _stream(client: TranslationClient, parsed: argparse.Namespace) -> None:
    responses = client.stream(
        parsed.text[0] if parsed.text else sys.stdin.read(),
        source=parsed.source,
        target=parsed.target,
        model=parsed.model,
        options=_options(parsed),
        timeout_seconds=parsed.timeout,
    )
    for response in responses:
        print(response.text_delta, end="", flush=True)
        if response.HasField("end"):
            print()
            _report([response.end.translation], response.end.timings, parsed)


def _options(parsed: argparse.Namespace) -> pb.TranslationOptions:
    return pb.TranslationOptions(
        beam_size=parsed.beam_size,
        num_hypotheses=parsed.num_hypotheses,
        max_output_tokens=parsed.max_output_tokens,
        temperature=parsed.temperature,
        seed=parsed.seed,
        return_alignments=parsed.show_alignment or parsed.heatmap is not None,
    )


def _report(translations: Sequence[pb.Translation], timings: pb.Timings, parsed: argparse.Namespace) -> None:
    """Notes on what happened, the heat maps, and the timings, as far as they were asked for."""
    for translation in translations:
        for note in _notes(translation):
            print(f"client: note: {note}", file=sys.stderr)
    aligned = [s.alignment for t in translations for s in t.sentences if s.HasField("alignment")]
    if parsed.show_alignment:
        for alignment in aligned:
            print(terminal_heatmap(alignment))
    if parsed.heatmap is not None:
        if not aligned:
            raise DrawingError("there is no sentence to draw")
        write_png(aligned[0], parsed.heatmap)
    if parsed.timings:
        print(_timings_line(timings), file=sys.stderr)


def _notes(translation: pb.Translation) -> list[str]:
    """What the server says it could not do as usual."""
    notes = []
    if translation.truncated:
        notes.append("cut off at the output limit")
    if translation.unknown_character_count:
        notes.append(f"{translation.unknown_character_count} characters are unknown to the model")
    if translation.split_piece_count:
        notes.append(f"too long for one piece; cut into {translation.split_piece_count}")
    fallbacks = [sentence.fallback for sentence in translation.sentences]
    if looped := fallbacks.count(pb.FALLBACK_REPETITION):
        notes.append(f"{looped} sentences repeated themselves and were decoded again with a guard")
    if endless := fallbacks.count(pb.FALLBACK_LENGTH):
        notes.append(f"{endless} sentences became far too long and were decoded again with a guard")
    return notes


def _timings_line(timings: pb.Timings) -> str:
    phases = ("total", "queue", "tokenize", "encode", "decode", "detokenize", "first_token")
    parts = [f"{name} {getattr(timings, name).ToTimedelta().total_seconds() * 1000:.1f} ms" for name in phases]
    return "client: " + ", ".join([*parts, f"{timings.step_count} steps", f"{timings.target_token_count} tokens"])


def _list_models(client: TranslationClient, timeout_seconds: float) -> None:
    for model in client.list_models(timeout_seconds=timeout_seconds):
        pairs = " ".join(f"{pair.source_language_code}-{pair.target_language_code}" for pair in model.language_pairs)
        print(f"{model.id} {model.version} {pb.Precision.Name(model.precision)} {model.provider} {pairs}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
