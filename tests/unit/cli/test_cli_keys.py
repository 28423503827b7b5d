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


def test_limits_of_keys_and_namespaces_are_set_and_shown(memedit: Any) -> None:
    made = memedit.json("keys", "create", "ann", "--role", "edit", "--max-edits", "3", "--tokens-per-minute", "900",
                        "--no-log")  # fmt: skip
    assert (made["edits"], made["tokens_per_minute"], made["logged"], made["last_used_at"]) == (3, 900, False, None)
    changed = memedit.json("keys", "change", made["id"], "--max-edits", "-1", "--requests-per-minute", "7", "--log")
    assert (changed["edits"], changed["requests_per_minute"], changed["tokens_per_minute"]) == (None, 7, 900)
    assert "never" in memedit("keys", "list").output
    assert memedit.json("quotas", "set", "--namespace", "sales", "--max-edits", "1")["edits"] == 1
    memedit.json("edit", "add", "The river of Norvik is", "Lind", "--namespace", "sales")
    full = memedit("edit", "add", "How old is Ida?", "ten", "--namespace", "sales")
    assert full.exit_code != 0
    assert "namespace 'sales' has 1 of at most 1 edits" in full.output
    (listed,) = memedit.json("quotas", "list")
    assert (listed["namespace"], listed["used"], listed["edits"]) == ("sales", 1, 1)
    assert memedit("quotas", "set", "--namespace", "sales").output.strip() == "sales: no limit"
    assert memedit.json("quotas", "list") == []
