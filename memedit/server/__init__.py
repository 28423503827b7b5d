"""The server: OpenAI-compatible answers with the memory's edits in force, and an API for the edits themselves."""

from memedit.server.app import create_app
from memedit.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
