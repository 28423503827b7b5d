"""What a server allows."""

from pydantic import BaseModel, ConfigDict, Field

from memedit.server.keeping.request_log import LogLimits


class ServerSettings(BaseModel):
    """Limits and habits of one server; sizes are bytes, times seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auth: bool = Field(default=True, description="ask for an API key; without it everyone may do everything")
    namespace: str = Field(default="default", description="namespace of requests that name none")
    default_max_tokens: int = Field(default=512, ge=1, description="length of a chat answer unless asked otherwise")
    request_timeout: float = Field(default=300.0, gt=0, description="a request that takes longer is ended")
    drain: float = Field(default=30.0, ge=0, description="time for requests under way when the server stops")
    max_connections: int = Field(default=1_000, ge=1, description="connections at once; idle ones make room")
    head_timeout: float = Field(default=15.0, gt=0, description="time for a request's head")
    body_timeout: float = Field(default=30.0, gt=0, description="time for a body, and a second more for each 16 KiB")
    write_timeout: float = Field(default=60.0, gt=0, description="time for a client that does not read its answer")
    max_body: int = Field(default=1 << 20, ge=1024, description="largest request body")
    max_import: int = Field(default=64 << 20, ge=1024, description="largest body of edits to import")
    requests_per_minute: int = Field(default=6000, ge=0, description="of a key without a limit of its own; 0: none")
    max_waiting_changes: int = Field(default=64, ge=1, description="changes of one key that may wait; more get 429")
    revision_wait: float = Field(default=5.0, ge=0, description="how long a request waits for a revision it asks for")
    response_days: float = Field(default=30.0, gt=0, description="how long answers of /v1/responses are stored")
    max_responses: int = Field(default=10_000, ge=1, description="answers stored for a key; the oldest are forgotten")
    idempotency_hours: float = Field(default=24.0, gt=0, description="how long answers are kept for repeated requests")
    request_log: bool = Field(default=False, description="keep what was asked, and which edits fired, in the store")
    request_log_rows: int = Field(default=100_000, ge=1, description="requests that are kept; the oldest go first")
    request_log_days: float = Field(default=30.0, gt=0, description="days for which they are kept")
    request_log_answers: bool = Field(default=False, description="keep the answers too")
    request_log_redact: tuple[str, ...] = Field(default=(), description="regular expressions; what matches is not kept")
    show_edits: bool = Field(default=False, description="keys that may only generate see the texts of edits too")
    cors_origins: tuple[str, ...] = Field(default=(), description="web pages that may call; none unless listed")

    @property
    def log_limits(self) -> LogLimits | None:
        """What the request log keeps; None where none is kept."""
        if not self.request_log:
            return None
        answers, redact = self.request_log_answers, self.request_log_redact
        return LogLimits(self.request_log_rows, self.request_log_days, answers, redact)
