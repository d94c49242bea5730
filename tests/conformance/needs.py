"""Which tests there are for which subject: those about an ability that a driver's class has not got do not exist for it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance.subjects import Subject, subject_class


def needs(*what: type | str) -> pytest.MarkDecorator:
    """The test is about these abilities of the driver or the subject (protocols), or traits of the subject (names)."""
    return pytest.mark.needs.with_args(*what)


def is_of_use(item: pytest.Item) -> bool:
    """Whether the subject of the test has all that it is about."""
    marker = item.get_closest_marker("needs")
    if marker is None or not isinstance(item, pytest.Function):
        return True
    try:
        cls = subject_class(str(item.callspec.params["subject_and_work_dir"]))
    except Exception:  # whatever hinders the import, the test itself fails of it
        return True
    return all(_has(cls, need) for need in marker.args)


def _has(cls: type[Subject], need: type | str) -> bool:
    """Look at attributes alone: no subject and no driver is made, so that collecting tests does nothing."""
    if isinstance(need, str):
        return bool(getattr(cls, need))
    subject: Any = object.__new__(cls)
    driver: Any = object.__new__(cls.driver_class)
    return isinstance(subject, need) or isinstance(driver, need)
