"""Threads that take no input: they wake on a signal or a period, read the world again, and take steps."""
