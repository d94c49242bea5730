"""What /metrics tells of the regular audit of a service: only what two looks have found counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from garbi.base.audit import Auditing


def audit_metrics(prefix: str, auditing: Auditing, audited: Collection[str]) -> Iterator[Metric]:
    """Violations of each of the `audited` invariants, what could not be checked, and how old that is; nothing before one."""
    violations = GaugeMetricFamily(
        prefix + "audit_violations", "Violations that the last regular audit found", labels=("invariant",)
    )
    unchecked = GaugeMetricFamily(prefix + "audit_unchecked", "What the last regular audit could not check")
    age = GaugeMetricFamily(prefix + "audit_age_seconds", "Seconds since the last regular audit ended")
    last, age_s = auditing.last, auditing.age_s()
    if last is not None and age_s is not None:
        found = Counter(each.invariant for each in last.violations if each.certain)
        for invariant in sorted({*audited, *found}, key=lambda name: (len(name), name)):
            violations.add_metric((invariant,), found[invariant])
        unchecked.add_metric((), sum(not each.certain for each in last.violations))
        age.add_metric((), age_s)
    yield violations
    yield unchecked
    yield age
