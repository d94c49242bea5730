"""Settings are read from the environment, and one that cannot be understood is named."""

from __future__ import annotations

import pytest

from garbi.base.errors import InvalidField
from garbi.hyper.settings import Settings


@pytest.mark.parametrize(
    ("text", "pauses"), [("0,10,30", (0.0, 10.0, 30.0)), (" 0.5 ,1 ", (0.5, 1.0)), ("5", (5.0,)), ("", ())]
)
def test_a_list_of_numbers_is_divided_by_commas(text: str, pauses: tuple[float, ...]) -> None:
    assert Settings.from_environment({"GARBI_HYPER_RESTART_PAUSES_S": text}).restart_pauses_s == pauses


@pytest.mark.parametrize("text", ["soon", "1,soon", "1;2", "-1", "1,-1", "inf", "nan"])
def test_a_list_that_is_none_of_numbers_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidField, match="GARBI_HYPER_RESTART_PAUSES_S takes a number"):
        Settings.from_environment({"GARBI_HYPER_RESTART_PAUSES_S": text})
