"""The faults that are planted in whose word a proof is, each with the script that finds it."""

from __future__ import annotations

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper.watchdog.leased import Leased

PROOF_FAULTS = (
    Fault("proof-of-anybody", "a proof counts whatever agent it speaks for", (
        ("garbi.iaas.fences.ssh._covered", constant(None)),
    ), seeds=(1,), plan=Plan(script="fence-of-another-agent")),
    Fault("rows-only", "a fence reads the records of the agent, and looks at no engine", (
        ("garbi.hyper.watchdog.leased.MarkJudge.judge", constant(Leased())),
    ), seeds=(1,), plan=Plan(script="fence-of-an-older-directory")),
)  # fmt: skip
