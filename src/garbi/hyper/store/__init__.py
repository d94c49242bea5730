"""The SQLite database of a host: schema, migrations, one file per resource. Transactions only, never a call outside."""
