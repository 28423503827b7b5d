"""Edits with their versions, their vectors, the change log."""

NAME = "edits"

STATEMENTS = (
    "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value {big} NOT NULL)",
    "INSERT INTO counters (name, value) VALUES ('revision', 0)",
    "INSERT INTO counters (name, value) VALUES ('seq', 0)",
    """
    CREATE TABLE edits (
        seq {big} NOT NULL,
        version INTEGER NOT NULL,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        prompt TEXT NOT NULL,
        target TEXT NOT NULL,
        subject TEXT,
        paraphrases TEXT NOT NULL,
        texts INTEGER NOT NULL,
        ground_truth TEXT,
        kind TEXT NOT NULL,
        metadata TEXT NOT NULL,
        source TEXT,
        created_at {big} NOT NULL,
        expired_at {big},
        valid_at {big},
        invalid_at {big},
        state TEXT NOT NULL,
        content_hash TEXT NOT NULL,
        prompt_hash {big} NOT NULL,
        subject_hash {big},
        PRIMARY KEY (seq, version)
    )
    """,
    "CREATE UNIQUE INDEX edits_id_version ON edits (id, version)",
    "CREATE INDEX edits_current ON edits (namespace, seq) WHERE expired_at IS NULL",
    "CREATE INDEX edits_prompt_hash ON edits (prompt_hash) WHERE expired_at IS NULL",
    "CREATE INDEX edits_subject_hash ON edits (subject_hash) WHERE expired_at IS NULL",
    """
    CREATE TABLE encoders (
        id INTEGER NOT NULL PRIMARY KEY,
        fingerprint TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        dimension INTEGER NOT NULL
    )
    """,
    "CREATE TABLE vectors (key {big} NOT NULL PRIMARY KEY, encoder INTEGER NOT NULL, vector {blob} NOT NULL)",
    """
    CREATE TABLE changes (
        revision {big} NOT NULL PRIMARY KEY,
        namespace TEXT NOT NULL,
        seq {big},
        version INTEGER,
        action TEXT NOT NULL,
        other TEXT,
        at {big} NOT NULL
    )
    """,
    "CREATE INDEX changes_namespace ON changes (namespace, revision)",
    "CREATE INDEX changes_seq ON changes (seq, revision)",
)
