"""A database behind a service: engine, transactions, migrations, space kept for them, the lock of a data directory."""
