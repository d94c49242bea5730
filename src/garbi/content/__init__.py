"""Content of images, whoever keeps it: inspection of hostile files in a sandbox, partial uploads."""
