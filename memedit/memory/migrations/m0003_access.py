"""Who may change a memory, who did, and which requests have been answered already."""

NAME = "access"

STATEMENTS = (
    """
    CREATE TABLE api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        roles TEXT NOT NULL,
        namespaces TEXT,
        requests_per_minute INTEGER,
        created_at {big} NOT NULL,
        expires_at {big},
        revoked_at {big}
    )
    """,
    """
    CREATE TABLE actors (
        first_revision {big} NOT NULL PRIMARY KEY,
        last_revision {big} NOT NULL,
        actor TEXT NOT NULL,
        request TEXT
    )
    """,
    """
    CREATE TABLE idempotency (
        actor TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        revision {big},
        status INTEGER,
        body TEXT,
        at {big} NOT NULL,
        PRIMARY KEY (actor, key)
    )
    """,
    "CREATE INDEX idempotency_at ON idempotency (at)",
)
