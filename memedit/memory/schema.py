"""The tables of an edit memory, as the newest migration leaves them (a test compares the two).

``edits`` is append-only but for ``expired_at``: every change of an edit closes its current version and inserts the
next, so what the store knew at any time can be read back. ``seq`` is an edit's integer identity: the key of its
vectors and of the in-memory indexes. ``changes`` is the change log other processes catch up from; ``actors`` says on
whose behalf a range of its revisions was made, written in the same transaction.
"""

from sqlalchemy import REAL, BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

Big = BigInteger().with_variant(Integer(), "sqlite")
"""64-bit integer; SQLite's rowid alias exists only under the name INTEGER."""

ORDINAL_BITS = 12
"""A vector's key is ``seq << ORDINAL_BITS | ordinal``: ordinal 0 is the prompt, i the i-th paraphrase."""

tables = MetaData()

migrations = Table(
    "memedit_migrations",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_at", Big, nullable=False),
)

counters = Table(
    "counters",
    tables,
    Column("name", Text, primary_key=True),
    Column("value", Big, nullable=False),
)

edits = Table(
    "edits",
    tables,
    Column("seq", Big, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("subject", Text),
    Column("paraphrases", Text, nullable=False),
    Column("texts", Integer, nullable=False),
    Column("ground_truth", Text),
    Column("kind", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("source", Text),
    Column("created_at", Big, nullable=False),
    Column("expired_at", Big),
    Column("valid_at", Big),
    Column("invalid_at", Big),
    Column("state", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("prompt_hash", Big, nullable=False),
    Column("subject_hash", Big),
    Column("blocks", Text, nullable=False, server_default="[]"),
)
Index("edits_id_version", edits.c.id, edits.c.version, unique=True)
_CURRENT = text("expired_at IS NULL")
Index("edits_current", edits.c.namespace, edits.c.seq, sqlite_where=_CURRENT, postgresql_where=_CURRENT)
Index("edits_prompt_hash", edits.c.prompt_hash, sqlite_where=_CURRENT, postgresql_where=_CURRENT)
Index("edits_subject_hash", edits.c.subject_hash, sqlite_where=_CURRENT, postgresql_where=_CURRENT)

encoders = Table(
    "encoders",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
)

vectors = Table(
    "vectors",
    tables,
    Column("key", Big, primary_key=True, autoincrement=False),
    Column("encoder", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),
)

changes = Table(
    "changes",
    tables,
    Column("revision", Big, primary_key=True, autoincrement=False),
    Column("namespace", Text, nullable=False),
    Column("seq", Big),
    Column("version", Integer),
    Column("action", Text, nullable=False),
    Column("other", Text),
    Column("at", Big, nullable=False),
)
Index("changes_namespace", changes.c.namespace, changes.c.revision)
Index("changes_seq", changes.c.seq, changes.c.revision)

artefacts = Table(
    "artefacts",
    tables,
    Column("seq", Big, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

possible_conflicts = Table(
    "possible_conflicts",
    tables,
    Column("newer", Big, primary_key=True, autoincrement=False),
    Column("older", Big, primary_key=True, autoincrement=False),
    Column("namespace", Text, nullable=False),
    Column("score", REAL, nullable=False),
    Column("at", Big, nullable=False),
)
Index("possible_conflicts_namespace", possible_conflicts.c.namespace)

leases = Table(
    "leases",
    tables,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("expires_at", Big, nullable=False),
)

settings = Table(
    "settings",
    tables,
    Column("namespace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    tables,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("namespaces", Text),
    Column("requests_per_minute", Integer),
    Column("created_at", Big, nullable=False),
    Column("expires_at", Big),
    Column("revoked_at", Big),
    Column("edits", Integer),
    Column("tokens_per_minute", Integer),
    Column("logged", Integer, nullable=False, server_default="1"),
    Column("last_used_at", Big),
)

actors = Table(
    "actors",
    tables,
    Column("first_revision", Big, primary_key=True, autoincrement=False),
    Column("last_revision", Big, nullable=False),
    Column("actor", Text, nullable=False),
    Column("request", Text),
)
Index("actors_actor", actors.c.actor, actors.c.first_revision)

idempotency = Table(
    "idempotency",
    tables,
    Column("actor", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("revision", Big),
    Column("status", Integer),
    Column("body", Text),
    Column("at", Big, nullable=False),
)
Index("idempotency_at", idempotency.c.at)

request_log = Table(
    "request_log",
    tables,
    Column("id", Text, primary_key=True),
    Column("at", Big, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("earlier", Text, nullable=False),
    Column("answer", Text),
    Column("fired", Text, nullable=False),
    Column("body", Text, nullable=False),
)
Index("request_log_namespace", request_log.c.namespace, request_log.c.id)
Index("request_log_actor", request_log.c.actor, request_log.c.id)

feedback = Table(
    "feedback",
    tables,
    Column("id", Text, primary_key=True),
    Column("at", Big, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("request", Text),
    Column("edit", Text, nullable=False),
    Column("should_fire", Integer, nullable=False),
    Column("query", Text, nullable=False),
    Column("earlier", Text, nullable=False),
    Column("settled_at", Big),
    Column("outcome", Text),
)
Index("feedback_namespace", feedback.c.namespace, feedback.c.id)

quotas = Table(
    "quotas",
    tables,
    Column("namespace", Text, primary_key=True),
    Column("edits", Integer),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
)

figures = Table(
    "figures",
    tables,
    Column("at", Big, primary_key=True, autoincrement=False),
    Column("server", Text, primary_key=True),
    Column("body", Text, nullable=False),
)

responses = Table(
    "responses",
    tables,
    Column("id", Text, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("created_at", Big, nullable=False),
    Column("expires_at", Big, nullable=False),
    Column("body", Text, nullable=False),
    Column("items", Text, nullable=False),
)
Index("responses_actor", responses.c.actor, responses.c.created_at)
Index("responses_expires_at", responses.c.expires_at)
