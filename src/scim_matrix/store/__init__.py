"""The SQLite store: what the identity provider wants and what is known of the homeserver."""
