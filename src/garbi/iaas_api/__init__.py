"""What a controller promises: schemas and client, for the command line, for scripts, for users' programs."""
