"""The database: settings, the embedded server, connections, schema, COPY, ledger. Knows no model."""
