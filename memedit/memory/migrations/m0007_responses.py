"""Answers that clients may go on from, each for whom it was given to, until it expires."""

NAME = "responses"

STATEMENTS = (
    """
    CREATE TABLE responses (
        id TEXT NOT NULL PRIMARY KEY,
        actor TEXT NOT NULL,
        namespace TEXT NOT NULL,
        created_at {big} NOT NULL,
        expires_at {big} NOT NULL,
        body TEXT NOT NULL,
        items TEXT NOT NULL
    )
    """,
    "CREATE INDEX responses_actor ON responses (actor, created_at)",
    "CREATE INDEX responses_expires_at ON responses (expires_at)",
)
