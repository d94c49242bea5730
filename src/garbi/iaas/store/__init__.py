"""The database of a cloud: schema, migrations, one file per resource. Transactions only, never a call outside."""
