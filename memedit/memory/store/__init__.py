"""The SQL store beneath the memory: connections and transactions on SQLite and PostgreSQL, and who acts in them."""
