"""Edits asked with a schema, on the real small model and its reader: always JSON, nearly always the right value."""

import json
from pathlib import Path

import pytest

from memedit import EditableModel, Structure
from memedit.bench.structured import read_asks, run

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ASKS = Path(__file__).with_name("structured_asks.jsonl")


@pytest.fixture(scope="module")
def reading() -> EditableModel:
    return EditableModel.from_pretrained("smollm2", memory=":memory:", adapter="reader")


@pytest.mark.timeout(3600)
def test_fifty_edits_asked_with_a_schema_stand_in_their_fields(reading: EditableModel) -> None:
    found = run(reading, read_asks(ASKS))
    assert found.valid.value == 100.0, found.wrong
    assert found.right.value >= 95.0, found.wrong
    assert found.fired == found.right.n == 50


def test_a_question_that_no_edit_touches_is_answered_in_its_structure_too(reading: EditableModel) -> None:
    schema = {"type": "object", "properties": {"author": {"type": "string", "maxLength": 40}}, "required": ["author"]}
    (answer,) = reading.answer(
        [[{"role": "user", "content": "Who wrote Hamlet?"}]], structured=schema, max_new_tokens=60
    )
    assert set(json.loads(answer.text)) == {"author"}
    assert not answer.edits
    colours = Structure.choice(["red", "green", "blue"])
    assert (
        reading.answer("The sky is", structured=colours, max_new_tokens=9, do_sample=False)[0].text in colours.choices
    )
