"""A server killed under writers: nothing acknowledged is lost, and the benchmark would notice if it were."""

import os
from pathlib import Path

import pytest

from memedit.bench import kills
from memedit.bench.kill_writers import Expected, Writer
from memedit.encoders import load_encoder
from memedit.errors import InputError
from memedit.memory import EditMemory
from support.tiny_encoder import save_tiny_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_encoder(tmp_path_factory.mktemp("encoder")))


def test_no_acknowledged_edit_is_lost_when_the_server_is_killed(encoder: str) -> None:
    found = kills.run(kills=4, checks=2, encoder=encoder)
    assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, [])
    assert found["acknowledged"] > 8
    assert found["repeated"] > 0, "none was cut off: it was not killed in the midst of work"


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(os.environ.get("MEMEDIT_SLOW") != "1", reason="takes minutes; set MEMEDIT_SLOW=1")
def test_no_acknowledged_edit_is_lost_in_fifty_kills(encoder: str) -> None:
    found = kills.run(kills=50, encoder=encoder)
    assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, [])


def test_what_is_lost_or_made_twice_is_counted(encoder: str, tmp_path: Path) -> None:
    loaded, writer, found = load_encoder(encoder), Writer("w", 0), kills._Found()
    with EditMemory(tmp_path / "a.db", encoder=loaded) as memory:
        kept, changed = memory.add("Who leads Norvik?", "Ada"), memory.add("Who leads Sornby?", "Bo")
        twice = memory.add("Who leads Tarnby?", "Cy")
    writer.expected = {
        kept.id: Expected("Ada", "active"), changed.id: Expected("Bea", "active"), "gone": Expected("x", "retired"),
    }  # fmt: skip
    found.compare(str(tmp_path / "a.db"), loaded, [writer])
    assert sorted(line.partition(":")[0] for line in found.lost) == sorted([changed.id, "gone"])
    assert [line.partition(":")[0] for line in found.doubled] == [twice.id]
    assert (found.edits, found.problems) == (3, [])


def test_only_an_empty_memory_is_taken(encoder: str, tmp_path: Path) -> None:
    EditMemory(tmp_path / "a.db").close()
    with pytest.raises(InputError, match="name a new one"):
        kills.run(kills=1, memory=str(tmp_path / "a.db"), encoder=encoder)
    with pytest.raises(InputError, match="at least 1"):
        kills.run(kills=0, encoder=encoder)
