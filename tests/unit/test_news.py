"""What events say of machines that wait: the last word counts, and a machine that is to be looked at is."""

from __future__ import annotations

from garbi.hyper_api.vocabulary import State
from garbi.iaas.loops.news import News, Word

STARTING, RUNNING = Word(State.STARTING, ""), Word(State.RUNNING, "")


def test_the_last_word_is_taken_once() -> None:
    news = News()
    news.hear("web", STARTING)
    news.hear("web", RUNNING)
    assert [news.take("web"), news.take("web")] == [RUNNING, None]


def test_a_machine_that_is_to_be_looked_at_is_so_whatever_is_said_of_it() -> None:
    news = News()
    news.hear("web", STARTING)
    news.want("web")
    news.hear("web", RUNNING)
    assert news.take("web") is None
    news.hear("web", RUNNING)
    assert news.take("web") == RUNNING


def test_machines_have_words_of_their_own() -> None:
    news = News()
    news.hear("web", RUNNING)
    news.want("db")
    assert (news.take("db"), news.take("web")) == (None, RUNNING)
