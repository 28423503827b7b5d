"""``memedit keys``."""

from collections.abc import Callable
from typing import Any

from memedit.memory import EditMemory, Role


def test_a_key_is_made_shown_once_listed_and_revoked(memedit: Any) -> None:
    made = memedit.json("keys", "create", "alice", "--role", "edit", "--role", "generate", "--allow", "sales")
    assert (made["roles"], made["namespaces"], made["state"]) == (["edit", "generate"], ["sales"], "usable")
    with EditMemory(memedit.database) as memory:
        found = memory.keys.find(made["key"])
    assert found is not None
    assert found.roles == {Role.EDIT, Role.GENERATE}
    listed = memedit("keys", "list")
    assert "alice" in listed.output
    assert made["key"] not in listed.output
    assert memedit.json("keys", "revoke", made["id"])["state"] == "revoked"
    assert [key["state"] for key in memedit.json("keys", "list")] == ["revoked"]


def test_a_plain_key_is_all_that_stands_on_stdout(memedit: Any) -> None:
    result = memedit("keys", "create", "bob", "--role", "read", "--days", "1")
    assert result.stdout.strip().startswith("mek_")
    assert len(result.stdout.split()) == 1


def test_wrong_keys_are_refused(memedit: Callable[..., Any]) -> None:
    assert "role" in memedit("keys", "create", "bob", "--role", "root").output
    assert memedit("keys", "revoke", "nothing").exit_code == 1
