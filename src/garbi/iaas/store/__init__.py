"""The database of a controller: schema, migrations, one file per resource. Transactions only, never a call outside."""
