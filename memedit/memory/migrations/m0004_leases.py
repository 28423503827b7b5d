"""Which process does what only one may do at a time."""

NAME = "leases"

STATEMENTS = (
    """
    CREATE TABLE leases (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        owner TEXT NOT NULL,
        expires_at {big} NOT NULL,
        PRIMARY KEY (namespace, name)
    )
    """,
)
