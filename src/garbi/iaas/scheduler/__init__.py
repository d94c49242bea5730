"""Where a machine goes, and why not elsewhere: pure decisions, values in, values out. For placement and for `explain`."""

from garbi.iaas.scheduler.asking import Ask, Candidate
from garbi.iaas.scheduler.explanation import Explanation, Verdict
from garbi.iaas.scheduler.filters import FILTERS, Filter
from garbi.iaas.scheduler.placing import place
from garbi.iaas.scheduler.replanning import Fleet, Homeless, Move, Placed, Plan, plan
from garbi.iaas.scheduler.strategies import RANKINGS, Ranking

__all__ = [
    "FILTERS",
    "RANKINGS",
    "Ask",
    "Candidate",
    "Explanation",
    "Filter",
    "Fleet",
    "Homeless",
    "Move",
    "Placed",
    "Plan",
    "Ranking",
    "Verdict",
    "place",
    "plan",
]
