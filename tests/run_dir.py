"""Where agents of tests, and their watchdogs, keep what is of one boot."""

RUN_DIR = "GARBI_HYPER_RUN_DIR"
"""The setting that says so. What starts services without the settings of the shell leaves them this one."""
