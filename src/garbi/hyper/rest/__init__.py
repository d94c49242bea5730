"""The HTTP face of the agent: one file per resource; each request becomes one call of the Python model."""
