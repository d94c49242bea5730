"""How the command line shows things: nothing harmful reaches a terminal, and what programs read is what was sent."""

from __future__ import annotations

import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from garbi.terminal.output import Column, field, plain, show_list, show_one, size_text, to_yaml
from garbi.terminal.text import clean, clean_log

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;aGk=\x1b\\text", "text"),
        ("\x1bP1$r\x1b\\text", "text"),
        ("\x1b(Btext\x1bc", "text"),
        ("a\x00b\x07c\x7fd\x9be", "abcde"),
        ("over\rwritten", "overwritten"),
        ("two\nlines", "twolines"),
        ("right\u202eto left", "rightto left"),
        ("zero\u200bwidth", "zerowidth"),
        ("ümlaut 漢字 €", "ümlaut 漢字 €"),
        ("\x1b]0;never ended", ""),
    ],
)
def test_control_characters_do_not_reach_the_terminal(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_log_keeps_its_lines_and_tabs() -> None:
    assert clean_log("one\r\n\ttwo\x1b[2J\n") == "one\n\ttwo\n"


@given(st.text())
def test_no_text_leaves_a_control_character(raw: str) -> None:
    assert all(
        character.isprintable() or character in "\n\t" or not character.isascii() for character in clean_log(raw)
    )
    assert "\x1b" not in clean(raw)
    assert clean(raw).isprintable() or not clean(raw).isascii()


@given(JSON)
def test_yaml_says_what_json_says(data: object) -> None:
    assert yaml.safe_load(to_yaml(data)) == json.loads(json.dumps(data))


def test_yaml_takes_a_key_of_any_length() -> None:
    data = {
        "k" * 2000: 1,
        "\u20ac" * 200: {"\u20ac" * 300: [1, {"\u20ac" * 400: None}]},
        "short": [{"\u20ac" * 500: []}],
    }
    assert yaml.safe_load(to_yaml(data)) == data


@given(st.text(alphabet=string.printable))
def test_yaml_never_takes_a_string_for_something_else(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, text: [text]})) == {"key": text, text: [text]} | (
        {"key": [text]} if text == "key" else {}
    )


@pytest.mark.parametrize(
    "word", ["true", "No", "null", "~", "1", "1e3", "0x1f", "2026-01-01", "-", ": ", "#", "a: b", "=", "<<", ".inf"]
)
def test_yaml_quotes_words_that_mean_something(word: str) -> None:
    assert yaml.safe_load(to_yaml([word])) == [word]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, "yes"), (False, "no"), ([1, "a"], "1,a"), ({"k": "v"}, "k=v"), (1.5, "1.5"), ("\x1b[1mx", "x")],
)
def test_values_are_words(value: object, shown: str) -> None:
    assert plain(value) == shown


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (15 * 2**20, "15.0 MiB"), (2**41, "2.0 TiB")]
)
def test_sizes_are_for_people(size: int, shown: str) -> None:
    assert size_text(size) == shown


ROWS = [{"id": "a", "reason": ""}, {"id": "b", "reason": "it\tbroke"}]
COLUMNS = (Column("id", field("id")), Column("reason", field("reason"), rare=True))


def test_a_pipe_gets_tab_separated_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ROWS, COLUMNS, "id", "table")
    assert capsys.readouterr().out == "ID\tREASON\na\t-\nb\titbroke\n"


def test_quiet_prints_ids_only(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ROWS, COLUMNS, "id", "table", quiet=True)
    assert capsys.readouterr().out == "a\nb\n"


def test_json_and_yaml_are_whole_and_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "reason": "\x1b[31m\x9b漢"}]
    show_list(rows, COLUMNS, "id", "json")
    as_json = capsys.readouterr().out
    show_list(rows, COLUMNS, "id", "yaml")
    as_yaml = capsys.readouterr().out
    assert json.loads(as_json) == yaml.safe_load(as_yaml) == rows
    assert as_json.isascii()
    assert as_yaml.isascii()


def test_one_document_is_shown_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"id": "a", "reason": "", "ports": []}, "table")
    assert capsys.readouterr().out == "id\ta\nreason\t-\nports\t-\n"
