"""The HTTP face of the controller: one file per resource; each request becomes one call of the Python model."""
