"""What a server keeps of its work: requests it answered, what people said of them, quotas, figures by the minute."""

NAME = "request log, feedback, quotas and figures"

STATEMENTS = (
    """
    CREATE TABLE request_log (
        id TEXT NOT NULL PRIMARY KEY,
        at {big} NOT NULL,
        namespace TEXT NOT NULL,
        actor TEXT NOT NULL,
        request TEXT NOT NULL,
        route TEXT NOT NULL,
        query TEXT NOT NULL,
        earlier TEXT NOT NULL,
        answer TEXT,
        fired TEXT NOT NULL,
        body TEXT NOT NULL
    )
    """,
    "CREATE INDEX request_log_namespace ON request_log (namespace, id)",
    "CREATE INDEX request_log_actor ON request_log (actor, id)",
    """
    CREATE TABLE feedback (
        id TEXT NOT NULL PRIMARY KEY,
        at {big} NOT NULL,
        namespace TEXT NOT NULL,
        actor TEXT NOT NULL,
        request TEXT,
        edit TEXT NOT NULL,
        should_fire INTEGER NOT NULL,
        query TEXT NOT NULL,
        earlier TEXT NOT NULL,
        settled_at {big},
        outcome TEXT
    )
    """,
    "CREATE INDEX feedback_namespace ON feedback (namespace, id)",
    """
    CREATE TABLE quotas (
        namespace TEXT NOT NULL PRIMARY KEY,
        edits INTEGER,
        requests_per_minute INTEGER,
        tokens_per_minute INTEGER
    )
    """,
    """
    CREATE TABLE figures (
        at {big} NOT NULL,
        server TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (at, server)
    )
    """,
    "ALTER TABLE api_keys ADD COLUMN edits INTEGER",
    "ALTER TABLE api_keys ADD COLUMN tokens_per_minute INTEGER",
    "ALTER TABLE api_keys ADD COLUMN logged INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE api_keys ADD COLUMN last_used_at {big}",
    "CREATE INDEX actors_actor ON actors (actor, first_revision)",
)
