"""The memory against a plain dict, over random sequences of changes."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from memedit.errors import ConflictError, InputError
from memedit.memory import EditMemory
from memedit.memory.normal import normalise
from memedit.types import EditState
from support.hashing_encoder import HashingEncoder

pytestmark = pytest.mark.slow

ENCODER = HashingEncoder(8)
PROMPTS = st.sampled_from([f"the colour of thing {i} is" for i in range(6)])
TARGETS = st.sampled_from(["red", "blue", "green"])
SPACES = st.sampled_from(["one", "two"])
POLICIES = st.sampled_from(["error", "supersede", "keep"])


class MemoryModel(RuleBasedStateMachine):
    """``live`` maps (namespace, id) to (prompt, target) of what must be in force; two handles share the file."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "edits.db"
        self.live: dict[tuple[str, str], tuple[str, str]] = {}
        self.gone: dict[tuple[str, str], tuple[str, str]] = {}

    @initialize()
    def open(self) -> None:
        self.memory = self._open()
        self.reader = self._open()

    def _open(self) -> EditMemory:
        # every pair of prompts about one subject would be judged: here only the same prompt counts
        return EditMemory(self.path, encoder=ENCODER, conflict_threshold=2.0)

    def against(self, space: str, prompt: str, target: str, besides: str | None = None) -> list[tuple[str, str]]:
        return [
            key
            for key, (p, t) in self.live.items()
            if key[0] == space and key[1] != besides and normalise(p) == normalise(prompt) and t != target
        ]

    def withdraw(self, key: tuple[str, str]) -> None:
        self.gone[key] = self.live.pop(key)

    def settle(self, space: str, edit_id: str, prompt: str, target: str, policy: str) -> None:
        """What the model expects of an accepted edit."""
        if policy == "supersede":
            for key in self.against(space, prompt, target, edit_id):
                self.withdraw(key)
        self.live[space, edit_id] = (prompt, target)

    @rule(target=ids, space=SPACES, prompt=PROMPTS, goal=TARGETS, policy=POLICIES)
    def add(self, space: str, prompt: str, goal: str, policy: str):  # type: ignore[no-untyped-def]
        twins = [k for k, value in self.live.items() if k[0] == space and value == (prompt, goal)]
        rivals = self.against(space, prompt, goal)
        try:
            edit = self.memory.add(prompt, goal, namespace=space, on_conflict=policy)  # type: ignore[arg-type]
        except ConflictError as error:
            assert policy == "error"
            assert (space, error.existing_id) in rivals  # noqa: PT017
            assert not twins
            return multiple()
        if twins:
            assert (space, edit.id) in twins
        elif (space, edit.id) not in self.gone:
            assert policy != "error" or not rivals
            self.settle(space, edit.id, prompt, goal, policy)
        return (space, edit.id)

    @rule(target=ids, key=consumes(ids), goal=TARGETS)
    def supersede(self, key: tuple[str, str], goal: str):  # type: ignore[no-untyped-def]
        space, edit_id = key
        try:
            new = self.memory.supersede(edit_id, target=goal, namespace=space)
        except InputError:
            prompt, old = {**self.live, **self.gone}[key]
            twins = [k for k, v in self.live.items() if k[0] == space and k != key and v == (prompt, goal)]
            assert key in self.gone or old == goal or twins
            return key
        except ConflictError as error:
            assert (space, error.existing_id) in self.against(space, self.live[key][0], goal, edit_id)  # noqa: PT017
            return key
        prompt, _ = self.live[key]
        assert not self.against(space, prompt, goal, edit_id)
        self.withdraw(key)
        self.live[space, new.id] = (prompt, goal)
        return (space, new.id)

    @rule(key=ids)
    def delete(self, key: tuple[str, str]) -> None:
        self.memory.delete(key[1], namespace=key[0])
        if key in self.live:
            self.withdraw(key)

    @rule(key=ids, policy=POLICIES)
    def restore(self, key: tuple[str, str], policy: str) -> None:
        space, edit_id = key
        known = self.gone.get(key)
        rivals = [] if known is None else self.against(space, *known, edit_id)
        twins = [k for k, value in self.live.items() if k[0] == space and known is not None and value == known]
        try:
            self.memory.restore(edit_id, namespace=space, on_conflict=policy)  # type: ignore[arg-type]
        except ConflictError:
            assert policy == "error"
            assert rivals
            return
        except InputError:
            assert twins
            return
        if known is not None:
            assert policy != "error" or not rivals
            self.settle(space, edit_id, *self.gone.pop(key), policy)

    @rule(key=ids, goal=TARGETS)
    def update(self, key: tuple[str, str], goal: str) -> None:
        space, edit_id = key
        try:
            self.memory.update(edit_id, target=goal, namespace=space)
        except ConflictError:
            assert self.against(space, self.live[key][0], goal, edit_id)
        except InputError:
            twins = key in self.live and [
                k for k, v in self.live.items() if k[0] == space and k != key and v == (self.live[key][0], goal)
            ]
            assert key in self.gone or twins
        else:
            self.live[key] = (self.live[key][0], goal)

    @rule()
    def save_and_open_again(self) -> None:
        self.memory.save_index()
        self.memory.close()
        self.memory = self._open()

    @invariant()
    def both_see_what_is_in_force(self) -> None:
        for space in ("one", "two"):
            expected = {key[1]: value for key, value in self.live.items() if key[0] == space}
            for memory in (self.memory, self.reader):
                assert {e.id: (e.prompt, e.target) for e in memory.list(namespace=space)} == expected
                assert {e.id for e in memory.list(namespace=space, state=EditState.RETIRED)} == {
                    key[1] for key in self.gone if key[0] == space
                }
                query = ENCODER.encode_tokens(["the colour of thing 0 is"])
                found = memory.candidates(query, k=50, namespace=space)[0]
                assert {c.edit.id: (c.edit.prompt, c.edit.target) for c in found} == expected

    def teardown(self) -> None:
        for space in ("one", "two"):
            report = self.reader.verify(namespace=space)
            assert report.ok, report.problems
        moment = max((e.created_at for e in self.reader.list(namespace="one")), default=None)
        if moment is not None:
            known = {e.id for e in self.reader.as_of(moment, namespace="one")}
            assert {key[1] for key in self.live if key[0] == "one"} <= known
        self.memory.close()
        self.reader.close()
        self.folder.cleanup()


TestMemoryModel = MemoryModel.TestCase
TestMemoryModel.settings = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


class LongerModel(MemoryModel):
    """The same, for longer."""


TestLongerModel = pytest.mark.slow(LongerModel.TestCase)
TestLongerModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
