"""What a host promises: schemas and client; the only thing that the two services share."""
