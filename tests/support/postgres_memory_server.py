"""A server on PostgreSQL in a process of its own, so that it can be killed: edits for real, a scripted engine."""

from memedit.memory import EditMemory
from memedit.server.runner import listen, run
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app
from support.scripted_upstream import ScriptedUpstream


def serve_until_killed(url: str, port: int) -> None:
    """Serve the memory at ``url``."""
    memory = EditMemory(url, encoder=HashingEncoder(dimension=8), max_lag=1.0, timeout=5)
    app = proxy_app(memory, ScriptedUpstream(), requests_per_minute=0)
    run(app, listen("127.0.0.1", port), drain=5)
