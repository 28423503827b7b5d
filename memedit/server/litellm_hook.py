"""Edits in a LiteLLM proxy: a callback that asks a memedit server which edits fire and states them in the request.

In LiteLLM's ``config.yaml``::

    litellm_settings:
      callbacks: memedit.server.litellm_hook.hook

``MEMEDIT_URL`` and ``MEMEDIT_API_KEY`` say where the server is; ``MEMEDIT_NAMESPACE`` which edits; with
``MEMEDIT_ON_ERROR=ignore`` a request goes on unedited when the server cannot be asked, instead of failing.
"""

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import httpx

from memedit.errors import MissingExtraError, ServiceUnavailableError
from memedit.server.engines.proxy_bodies import NoteRole, with_edits
from memedit.types import EditKind

METADATA = "memedit_edits"
"""Where the ids and scores of the edits that fired are put in a request's metadata, for LiteLLM's logs."""

_SECONDS = 10.0


class EditLookup:
    """Asks a memedit server about chats and puts the edits that fire into them.

    Args:
        url: the server's address.
        api_key: a key with the role read.
        namespace: whose edits; None is the key's only one, or the server's.
        note_role: the message that takes the edits.
        ignore_errors: leave a request as it is when the server cannot be asked.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        namespace: str | None = None,
        note_role: NoteRole = "system",
        ignore_errors: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        headers |= {"X-Memedit-Namespace": namespace} if namespace else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=_SECONDS, transport=transport)
        self._note_role, self._ignore_errors = note_role, ignore_errors

    @classmethod
    def from_environment(cls) -> "EditLookup":
        """Return the look-up that the environment describes; see the module."""
        return cls(
            os.environ.get("MEMEDIT_URL", "http://127.0.0.1:8000"),
            api_key=os.environ.get("MEMEDIT_API_KEY"),
            namespace=os.environ.get("MEMEDIT_NAMESPACE"),
            ignore_errors=os.environ.get("MEMEDIT_ON_ERROR") == "ignore",
        )

    async def edited(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a chat request with the edits that fire on it; one without messages as it is.

        Raises:
            ServiceUnavailableError: the server cannot be asked, and errors are not to be ignored.
        """
        messages = data.get("messages")
        if not messages:
            return data
        try:
            response = await self._client.post("/v1/edits/explain", json={"messages": _plain(messages)})
            response.raise_for_status()
            fired = response.json()["fired"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            if self._ignore_errors:
                return data
            raise ServiceUnavailableError(
                f"the memedit server at {self._client.base_url} could not be asked which edits apply: {error}"
            ) from error
        if not fired:
            return data
        edits = [SimpleNamespace(prompt=hit["prompt"], target=hit["target"], kind=EditKind.FACT) for hit in fired]
        scores = {hit["id"]: hit["score"] for hit in fired}
        metadata = {**(data.get("metadata") or {}), METADATA: scores}
        return {**data, "messages": with_edits(messages, edits, self._note_role), "metadata": metadata}


def _plain(messages: Any) -> list[dict[str, Any]]:
    """Messages with what the look-up reads: role, and content as text or typed parts."""
    return [{"role": str(message["role"]), "content": message.get("content") or ""} for message in messages]


def make_hook(lookup: EditLookup | None = None) -> Any:
    """Return a LiteLLM callback; ``lookup`` None takes the one that the environment describes.

    Raises:
        MissingExtraError: LiteLLM is not installed.
    """
    try:
        from litellm.integrations.custom_logger import CustomLogger
    except ImportError as error:
        raise MissingExtraError("litellm", "litellm") from error
    found = EditLookup.from_environment() if lookup is None else lookup

    class EditHook(CustomLogger):  # type: ignore[misc, unused-ignore]
        async def async_pre_call_hook(
            self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
        ) -> Mapping[str, Any]:
            """Put the edits that fire into a chat."""
            return await found.edited(data)

    return EditHook()


def __getattr__(name: str) -> Any:
    """Make ``hook`` when LiteLLM asks for it."""
    if name != "hook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = make_hook()
    globals()["hook"] = made
    return made
