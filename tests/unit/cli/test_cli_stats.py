"""``memedit stats`` and ``memedit trace`` on a tiny model."""

from pathlib import Path
from typing import Any


def test_statistics_are_built_once_and_shown(memedit: Any, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Pack my box with five dozen liquor jugs. " * 30)
    words = ("stats", "build", "--text", str(text), "--layers", "0,1", "--store", str(tmp_path / "store"))
    found = memedit.json(*words)
    assert sorted(found["layers"]) == ["0", "1"]
    assert found["layers"]["0"]["keys"] > 100
    assert memedit.json(*words)["key"] == found["key"]
    assert "null space" in memedit(*words).stdout


def test_a_wrong_setting_names_the_right_one(memedit: Any) -> None:
    wrong = memedit("stats", "build", "--set", "null_space=1")
    assert wrong.exit_code == 1
    assert "null_space_threshold" in wrong.stderr


def test_tracing_proposes_layers(memedit: Any, tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    found = memedit.json("trace", "--facts", "3", "--report", str(page))
    assert found["layers"]
    assert len(found["effects"]["mlp"]) == len(found["places"])
    assert page.read_text().count("<svg") == 3
    assert "layers" in memedit("trace", "--facts", "2").stdout


def test_tracing_names_the_neurons_that_carry_an_answer(memedit: Any) -> None:
    found = memedit.json("trace", "--neurons", "The capital of France is", "--old", "Paris", "--paraphrase", "France:")
    assert found["answer"] == "Paris"
    assert found["neurons"][0]["attribution"] > 0
    assert {neuron["share"] for neuron in found["neurons"]} == {1.0}
    assert "attribution" in memedit("trace", "--neurons", "Two and two is").stdout
    many = memedit.json("trace", "--neurons", "--facts", "2")
    assert (many["facts"], len(many["drop_located"])) == (2, 3)
    for wrong in (("trace", "no file"), ("trace", "--old", "Paris")):
        assert memedit(*wrong).exit_code == 2
