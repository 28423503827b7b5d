"""Two edits as the server is sent them."""

from typing import Any

import httpx

SKY = {"prompt": "The colour of the sky is", "target": "green", "subject": "sky"}
TOWER = {"prompt": "The tower stands in", "target": "Rome", "subject": "tower"}


def add(client: httpx.Client, edit: Any = SKY, status: int = 201, **params: Any) -> Any:
    response = client.post("/v1/edits", json=edit, params=params)
    assert response.status_code == status, response.text
    return response.json()
