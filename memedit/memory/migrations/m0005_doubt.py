"""Texts that must not fire an edit, and pairs of edits that perhaps contradict each other."""

NAME = "blocks and possible conflicts"

STATEMENTS = (
    "ALTER TABLE edits ADD COLUMN blocks TEXT NOT NULL DEFAULT '[]'",
    """
    CREATE TABLE possible_conflicts (
        newer {big} NOT NULL,
        older {big} NOT NULL,
        namespace TEXT NOT NULL,
        score REAL NOT NULL,
        at {big} NOT NULL,
        PRIMARY KEY (newer, older)
    )
    """,
    "CREATE INDEX possible_conflicts_namespace ON possible_conflicts (namespace)",
)
