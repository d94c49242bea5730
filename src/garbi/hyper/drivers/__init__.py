"""Drivers: how a type of machine is really made, started, stopped and removed. They do not know one another."""
