"""Chooses the node for a machine: every node is judged, the best of those that fit is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from garbi.hyper_api.vocabulary import PublishedPort
from garbi.iaas.scheduler.asking import Ask, Candidate
from garbi.iaas.scheduler.explanation import Explanation, Verdict
from garbi.iaas.scheduler.filters import first_refusal, taken
from garbi.iaas.scheduler.strategies import RANKINGS, Ranking


def place(ask: Ask, candidates: Iterable[Candidate]) -> Explanation:
    """Judge every node and choose one; the order of the candidates changes nothing.

    The names of the nodes must differ. `chosen` is None when no node fits; `Explanation.to_error` is then the refusal.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.node.name)
    ranking = RANKINGS[ask.strategy]
    refused: dict[str, Verdict] = {}
    fitting: list[Candidate] = []
    for candidate in ordered:
        verdict = _refusal(ask, candidate)
        if verdict is None:
            fitting.append(candidate)
        else:
            refused[verdict.node] = verdict
    chosen = min(fitting, key=lambda each: _key(ranking, ask, each), default=None)
    accepted = {each.node.name: _accepted(ask, ranking, each, chosen, fitting) for each in fitting}
    verdicts = refused | accepted
    return Explanation(
        verdicts=tuple(verdicts[candidate.node.name] for candidate in ordered),
        chosen=None if chosen is None else chosen.node.name,
        strategy=ask.strategy,
        node=ask.node,
        taken=_taken(ask, ordered, refused),
    )


def _refusal(ask: Ask, candidate: Candidate) -> Verdict | None:
    found = first_refusal(ask, candidate)
    if found is None:
        return None
    reason, brief = found.explain(ask, candidate), found.brief(ask, candidate)
    return Verdict(candidate.node.name, False, found.name, reason, None, brief)


def _key(ranking: Ranking, ask: Ask, candidate: Candidate) -> tuple[float, float, str]:
    return ranking.score(candidate), ranking.then(ask, candidate), candidate.node.name


def _accepted(
    ask: Ask, ranking: Ranking, candidate: Candidate, chosen: Candidate | None, fitting: Sequence[Candidate]
) -> Verdict:
    fact = ranking.describe(candidate)
    if candidate is not chosen:
        reason = f"fits; {fact}"
    elif ask.node is not None:
        reason = f"chosen: it was asked for; {fact}"
    elif len(fitting) == 1:
        reason = f"chosen: the only one that fits; {fact}"
    else:
        reason = f"chosen by {ask.strategy}: {ranking.why}; {fact}{_tie(ask, ranking, candidate, fitting)}"
    return Verdict(candidate.node.name, True, "", reason, round(ranking.score(candidate), 4))


def _tie(ask: Ask, ranking: Ranking, chosen: Candidate, fitting: Sequence[Candidate]) -> str:
    best = _key(ranking, ask, chosen)[:2]
    equal = sum(_key(ranking, ask, each)[:2] == best for each in fitting)
    return f"; first by name of {equal} equal nodes" if equal > 1 else ""


def _taken(ask: Ask, candidates: Sequence[Candidate], refused: dict[str, Verdict]) -> tuple[PublishedPort, str] | None:
    """The port that keeps the machine from the node that was named."""
    for candidate in candidates:
        verdict = refused.get(candidate.node.name)
        if candidate.node.name == ask.node and verdict is not None and verdict.filter == "port":
            return taken(ask, candidate)
    return None
