"""Decides from silence what is said of a node. Values in, values out: no I/O, no clock."""
