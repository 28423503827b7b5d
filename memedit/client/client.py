"""Edits and answers of a memedit server, under the names they have in this package."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from memedit.client.consolidations import Consolidations
from memedit.client.edits import EditCalls
from memedit.client.events import chunks
from memedit.client.results import ChatAnswer, answers_of, fired_of
from memedit.client.transport import Transport

Messages = Sequence[Mapping[str, Any]]


class Client(EditCalls):
    """A connection to a memedit server.

    ``add``, ``get``, ``list``, ``search``, ``update``, ``supersede``, ``delete``, ``restore``, ``history``, ``as_of``,
    ``export`` and ``import_file`` do what they do on an :class:`memedit.EditMemory`; ``chat``, ``complete`` and
    ``stream`` answer with the memory's edits in force. Requests that could not be answered (the connection broke, the
    server is busy or restarting) are repeated; changes carry an idempotency key, so that none is made twice. Later
    requests see this client's own changes whichever of several servers they reach. Safe to use from several threads.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8000``.
        api_key: a key made by ``memedit keys create``; None for a server without keys.
        namespace: the namespace to work in; None is the key's only one, or the server's.
        timeout: seconds without a byte after which a response is given up.
        retries: how often a request is repeated.
        transport: replaces the network, for tests.

    Raises:
        ServiceUnavailableError: the server cannot be reached, or still cannot answer after all tries.
        ServiceError: it refused a request for another reason than those that have a class of their own.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        namespace: str | None = None,
        timeout: float = 300.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        options: dict[str, Any] = {} if sleep is None else {"sleep": sleep}
        super().__init__(
            Transport(
                url,
                api_key=api_key,
                namespace=namespace,
                timeout=timeout,
                retries=retries,
                transport=transport,
                **options,
            )
        )

    @property
    def consolidations(self) -> Consolidations:
        """Writing edits into the weights: start, watch, publish, roll back, withdraw."""
        return Consolidations(self._transport)

    @property
    def revision(self) -> int:
        """The newest revision of the memory that this client's changes have made; 0 before the first."""
        return self._transport.revision

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that can be asked, the default one first."""
        return tuple(model["id"] for model in self._transport.get("/v1/models")["data"])

    def chat(self, messages: str | Messages, *, model: str = "", edits: bool = True, **options: Any) -> ChatAnswer:
        """Answer a chat, or one question.

        Args:
            messages: a question, or messages with role and content.
            model: which model; the server's default when empty.
            edits: False asks the bare model.
            options: further fields of OpenAI's request: max_tokens, temperature, seed, stop ...
        """
        body = _chat_body(messages, model, edits, options)
        return answers_of(self._transport.send("POST", "/v1/chat/completions", json=body).json())[0]

    def complete(self, prompt: str, *, model: str = "", edits: bool = True, **options: Any) -> ChatAnswer:
        """Continue a text; arguments as for :meth:`chat`."""
        body = {"prompt": prompt, "model": model, "memedit": {"edits": edits}, **options}
        return answers_of(self._transport.send("POST", "/v1/completions", json=body).json())[0]

    def stream(
        self, messages: str | Messages, *, model: str = "", edits: bool = True, **options: Any
    ) -> "AnswerStream":
        """Answer a chat piece by piece; arguments as for :meth:`chat`. Close the stream to give the answer up."""
        body = _chat_body(messages, model, edits, options)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        return AnswerStream(self._transport, body)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AnswerStream:
    """An answer as it is written: iterate for its pieces; ``answer`` is the whole once it is done."""

    def __init__(self, transport: Transport, body: Mapping[str, Any]) -> None:
        self._pieces = self._read(transport, body)
        self._texts: list[str] = []
        self._found: dict[str, Any] = {}
        self._reason, self._usage = "", {"prompt_tokens": 0, "completion_tokens": 0}

    @property
    def answer(self) -> ChatAnswer:
        """What has been written so far, with the edits that fired."""
        return ChatAnswer(
            text="".join(self._texts),
            finish_reason=self._reason,
            edits=fired_of(self._found.get("edits")),
            adapter=self._found.get("adapter"),
            revision=int(self._found.get("revision", 0)),
            prompt_tokens=int(self._usage["prompt_tokens"]),
            completion_tokens=int(self._usage["completion_tokens"]),
        )

    def close(self) -> None:
        """Give the rest of the answer up; the server stops writing it."""
        self._pieces.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def _read(self, transport: Transport, body: Mapping[str, Any]) -> Any:
        with transport.opened("POST", "/v1/chat/completions", json=body) as response:
            for chunk in chunks(response):
                self._found = chunk.get("memedit") or self._found
                self._usage = chunk.get("usage") or self._usage
                for choice in chunk["choices"]:
                    self._reason = choice.get("finish_reason") or self._reason
                    text = choice["delta"].get("content")
                    if text:
                        self._texts.append(text)
                        yield text


def _chat_body(messages: str | Messages, model: str, edits: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(m) for m in messages]
    return {"messages": asked, "model": model, "memedit": {"edits": edits}, **options}
