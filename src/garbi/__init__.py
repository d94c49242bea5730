"""Garbi: a private cloud for 1 to 100 hosts. `garbi.hyper` is the agent of one host."""

__version__ = "0.1.0"
