"""The server process of the crash tests: the application over a file, with an engine that answers nothing."""

from collections.abc import AsyncIterator, Sequence

from memedit.memory import EditMemory
from memedit.server import ServerSettings, create_app
from memedit.server.engines.base import Completion, EngineLoad, EngineModel, Event, GenerationRequest
from memedit.server.lookups import Lookups
from memedit.server.problems import ApiError
from memedit.server.runner import listen, run
from support.hashing_encoder import HashingEncoder


class NoEngine:
    """Edits only: the crash tests never ask the model, which would take long to load."""

    async def start(self) -> None:
        return None

    async def stop(self, *, drain: float) -> None:
        return None

    async def problem(self) -> str | None:
        return None

    async def models(self) -> Sequence[EngineModel]:
        return [EngineModel("none", 0)]

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Event]:
        raise ApiError(503, "no model here")
        yield

    async def complete(self, request: GenerationRequest) -> Completion:
        raise ApiError(503, "no model here")

    def load(self) -> EngineLoad:
        return EngineLoad(0, 0)


def serve_until_killed(path: str, port: int) -> None:
    """Serve the edit API over the memory at ``path``."""
    memory = EditMemory(path, encoder=HashingEncoder(dimension=8))
    lookups = Lookups(memory, scope="subject")
    settings = ServerSettings(auth=False, requests_per_minute=0)
    run(create_app(NoEngine(), lookups, settings), listen("127.0.0.1", port), drain=1)
