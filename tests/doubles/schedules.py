"""Random schedules of requests against one engine, and what each request gets when it is alone."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from service.engine import DecodingOptions, Engine, Hypothesis, ModelRunner, Priority
from service.engine.engine import Ticket

Source = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, the turn in which it comes, how long after it the caller goes away, if ever, and its class."""

    source: Source
    options: DecodingOptions
    turn: int
    cancelled: int | None
    priority: Priority


@st.composite
def options(draw: st.DrawFn, *, longest: int) -> DecodingOptions:
    """Any mix of searches; outputs are kept short, since random models rarely end by themselves."""
    limit = draw(st.integers(1, longest))
    if draw(st.integers(0, 3)) == 0:
        return DecodingOptions(
            sampling=True,
            seed=draw(st.integers(0, 5)),
            temperature=draw(st.sampled_from([0.7, 1.0, 1.4])),
            top_k=draw(st.sampled_from([0, 3, 40])),
            top_p=draw(st.sampled_from([0.8, 1.0])),
            max_output_tokens=limit,
            return_token_scores=True,
        )
    return DecodingOptions(
        beam_size=draw(st.sampled_from([1, 1, 1, 2, 4, 5])),
        max_output_tokens=limit,
        no_repeat_ngram_size=draw(st.sampled_from([0, 0, 0, 2])),
        return_token_scores=True,
    )


def arrivals(sources: st.SearchStrategy[Source], *, longest: int) -> st.SearchStrategy[list[Arrival]]:
    """Up to eight requests over a dozen turns, some of them cancelled."""
    one = st.builds(
        Arrival,
        source=sources,
        options=options(longest=longest),
        turn=st.integers(0, 12),
        cancelled=st.one_of(st.none(), st.none(), st.integers(1, 15)),
        priority=st.sampled_from(Priority),
    )
    return st.lists(one, min_size=1, max_size=8)


def run_schedule(engine: Engine, schedule: list[Arrival]) -> list[Ticket]:
    """Let everybody arrive, step until nothing is left; tickets in the schedule's order."""
    tickets: dict[int, Ticket] = {}
    turn = 0
    while len(tickets) < len(schedule) or engine.waiting or engine.running:
        for index, arrival in enumerate(schedule):
            if arrival.turn == turn:
                tickets[index] = engine.submit(arrival.source, arrival.options, priority=arrival.priority)
            if arrival.cancelled is not None and index in tickets and turn == arrival.turn + arrival.cancelled:
                tickets[index].cancel()
        engine.step()
        turn += 1
    return [tickets[index] for index in range(len(schedule))]


class Alone:
    """Answers of single requests on a runner of their own, remembered."""

    def __init__(self, runner: ModelRunner) -> None:
        self._engine = Engine([runner])
        self._known: dict[tuple[Source, DecodingOptions], tuple[Hypothesis, ...]] = {}

    def __call__(self, source: Source, asked: DecodingOptions) -> tuple[Hypothesis, ...]:
        """Return the hypotheses of `source` without any neighbour."""
        if (source, asked) not in self._known:
            ticket = self._engine.submit(source, asked)
            while self._engine.step():
                pass
            self._known[source, asked] = ticket.future.result(0).hypotheses
        return self._known[source, asked]


def differences(schedule: list[Arrival], tickets: list[Ticket], alone: Alone) -> list[str]:
    """What is not bit-equal to the request's own answer: ids, every token's log-probability, every score."""
    found = []
    for arrival, ticket in zip(schedule, tickets, strict=True):
        if not ticket.future.done():
            found.append(f"{arrival} was never answered")
        elif ticket.future.exception(0) is None:
            if ticket.future.result(0).hypotheses != alone(arrival.source, arrival.options):
                found.append(f"{arrival} got another answer than alone")
        elif arrival.cancelled is None:
            found.append(f"{arrival} failed: {ticket.future.exception(0)!r}")
    return found
