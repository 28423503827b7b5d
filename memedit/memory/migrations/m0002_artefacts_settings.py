"""What adapters and scopes keep for each edit, and a namespace's settings."""

NAME = "artefacts and settings"

STATEMENTS = (
    """
    CREATE TABLE artefacts (
        seq {big} NOT NULL,
        kind TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        data {blob} NOT NULL,
        PRIMARY KEY (seq, kind, fingerprint)
    )
    """,
    """
    CREATE TABLE settings (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (namespace, key)
    )
    """,
)
