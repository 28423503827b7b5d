"""Polishing: more of the edits, less of anything else, the same bits from the same set, and a base left alone."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memedit.consolidation import (
    ConsolidationSettings,
    EditRequest,
    Statistics,
    applied,
    build_statistics,
    compute_artefacts,
    polish,
    solve,
)
from memedit.consolidation.polish_rows import RowMaker
from memedit.consolidation.rows import prompt_ids, target_ids
from memedit.consolidation.site import EditSite
from memedit.consolidation.wordings import template_of
from memedit.errors import ConfigError, InputError
from memedit.models import LoadedModel
from memedit.types import WeightDelta
from support.consolidation_bench import REQUESTS, SETTINGS, TEXTS, tiny_loaded, weights_of

pytestmark = pytest.mark.slow

LAX = replace(SETTINGS, mom2_weight=300.0)
"""A closed form that falls short, so that there is something left to do."""
STEPS = 30


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little text, kept in the test's own folder."""
    monkeypatch.setattr(polish, "TOKENS", 480)
    monkeypatch.setattr(polish, "WINDOW", 24)
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "cache"))
    for found_by_an_encoder in ("known_wordings", "other_names"):
        monkeypatch.setattr(polish, found_by_an_encoder, lambda *_, **__: {})


def _solved(loaded: LoadedModel, tmp_path: Path, steps: int, **options: Any) -> WeightDelta:
    statistics: Statistics = build_statistics(loaded, LAX, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, LAX)
    given = {"requests": REQUESTS, **options}
    return solve(loaded, artefacts, statistics, replace(LAX, polish=steps), "memit", **given)


@torch.no_grad()
def _loss(loaded: LoadedModel, delta: WeightDelta) -> float:
    """Mean negative log-likelihood of all targets behind their bare prompts."""
    losses = []
    with applied(loaded, delta):
        for request in REQUESTS:
            prompt, wanted = (
                prompt_ids(loaded.tokenizer, request, spaced=False)[0],
                target_ids(loaded.tokenizer, request),
            )
            logits = loaded.model(torch.tensor([[*prompt, *wanted[:-1]]])).logits[0, len(prompt) - 1 :]
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(wanted))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_edits_hold_better_and_the_base_is_left_alone(family: str, tmp_path: Path) -> None:
    loaded = tiny_loaded(family)
    before = weights_of(loaded.model)
    told: list[tuple[int, int]] = []
    plain = _solved(loaded, tmp_path, 0)
    better = _solved(loaded, tmp_path, STEPS, progress=lambda done, total: told.append((done, total)))
    assert _loss(loaded, better) < _loss(loaded, plain) - 0.02
    assert told == [(n + 1, STEPS) for n in range(STEPS)]
    assert better.terms.keys() == plain.terms.keys()
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in loaded.model.parameters())


def test_further_layers_are_moved_from_no_change_on(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    more = replace(LAX, polish=STEPS, polish_layers=(2,))
    statistics = build_statistics(loaded, more, TEXTS, store=tmp_path)
    assert sorted(statistics.layers) == [0, 1, 2]
    artefacts = compute_artefacts(loaded, REQUESTS, more)
    plain = solve(loaded, artefacts, statistics, replace(more, polish=0, polish_layers=()), "memit", requests=REQUESTS)
    better = solve(loaded, artefacts, statistics, more, "memit", requests=REQUESTS)
    (further,) = better.terms.keys() - plain.terms.keys()
    assert ".2." in further
    assert np.abs(better.terms[further].matrix()).max() > 0
    assert _loss(loaded, better) < _loss(loaded, plain) - 0.02


def test_further_layers_must_be_there_and_polished() -> None:
    with pytest.raises(ConfigError, match="polish_layers must be layer numbers, none where polish is 0"):
        ConsolidationSettings(polish_layers=(3,))
    with pytest.raises(InputError, match="layer 9 does not exist; the model has layers 0 to 2"):
        EditSite.of(tiny_loaded(), replace(SETTINGS, polish=1, polish_layers=(9,)))


def test_steps_take_back_what_they_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(share: float) -> float:
        monkeypatch.setattr(polish, "DECAY", share)
        return sum(float(np.linalg.norm(t.matrix())) for t in _solved(loaded, tmp_path, 8).terms.values())

    loaded, usual = tiny_loaded(), polish.DECAY
    kept, less, half = size(0.0), size(usual), size(0.5)
    assert less < kept
    assert half < 0.5 * kept


def test_more_is_taken_back_at_the_end_after_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def matrices(steps: int, cooling: float) -> list[np.ndarray]:
        monkeypatch.setattr(polish, "COOLING", cooling)
        return [term.matrix() for term in _solved(loaded, tmp_path, steps).terms.values()]

    loaded, usual = tiny_loaded(), polish.COOLING
    assert 0.9 < (1 - polish.DECAY) ** (usual * 160) < 0.95
    for steps in (2, 6):
        left = (1 - polish.DECAY) ** (usual * steps)
        for whole, cooled in zip(matrices(steps, 0.0), matrices(steps, usual), strict=True):
            assert np.allclose(cooled, whole * left, rtol=1e-9, atol=0)


def test_exchanged_subjects_may_go_through_the_model_without_edits(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    statistics = build_statistics(loaded, LAX, TEXTS, store=tmp_path)
    site = EditSite.of(loaded, LAX)
    start = {layer: torch.zeros(site.weight(loaded.model, layer).shape).double() for layer in statistics.layers}
    run = polish._Descent(loaded, start, statistics.layers, LAX)
    rows = RowMaker(loaded.tokenizer, REQUESTS, [[[1, 2, 3]]], 0).swapped(3)
    assert rows
    run._write(run._base)
    loss = run._asked_loss(rows, edits=4, free=len(rows))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_the_same_set_gives_the_same_bits_in_any_order(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    one = _solved(loaded, tmp_path, 4)
    other = _solved(loaded, tmp_path, 4, requests=REQUESTS[::-1])
    assert all(np.array_equal(term.matrix(), other.terms[name].matrix()) for name, term in one.terms.items())
    assert (tmp_path / "cache" / "windows").is_dir(), "the second took its text from the first"


def test_text_comes_from_the_statistics_and_from_the_model(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    given = build_statistics(loaded, LAX, TEXTS, store=tmp_path)
    own, theirs, *more = polish._texts(loaded, given, LAX)
    assert more == [theirs] * (polish.GIVEN - 1)
    assert own == polish.own_windows(loaded, LAX)
    assert loaded.tokenizer.decode([token for window in theirs for token in window]) in TEXTS[0]
    assert max(map(len, theirs)) == polish.WINDOW
    drawn = RowMaker(loaded.tokenizer, REQUESTS, [own, theirs], 0).texts(40)
    assert any(window in theirs for window in drawn)
    assert any(window in own for window in drawn)
    sampled = build_statistics(loaded, LAX, None, store=tmp_path, tokens=200)
    (alone,) = polish._texts(loaded, sampled, LAX)
    assert alone == [window[: polish.WINDOW] for window in sampled.windows]


def test_damaged_text_is_written_anew(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    first = polish.own_windows(loaded, LAX)
    (kept,) = (tmp_path / "cache" / "windows").iterdir()
    assert polish.own_windows(loaded, LAX) == first
    kept.write_bytes(b"broken")
    assert polish.own_windows(loaded, LAX) == first


def test_the_words_of_every_edit_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"words of every edit; those of d "):
        _solved(tiny_loaded(), tmp_path, 2, requests=REQUESTS[:-1])


def test_steps_cannot_be_negative() -> None:
    with pytest.raises(ConfigError, match=r"layers must be of type tuple.*\n.*polish must be of type int, got 'many'"):
        ConsolidationSettings(polish="many", layers=(1, "two"))
    with pytest.raises(ConfigError, match="polish must be 0 or more"):
        replace(LAX, polish=-1)


def _maker(requests: tuple[EditRequest, ...] = REQUESTS, seed: int = 0) -> tuple[RowMaker, Any]:
    loaded = tiny_loaded()
    windows = [loaded.tokenizer("some passing text that stands in front of things")["input_ids"]]
    return RowMaker(loaded.tokenizer, requests, [windows], seed), loaded.tokenizer


def test_every_edit_comes_once_before_any_comes_again() -> None:
    maker, tokenizer = _maker()
    said = [tokenizer.decode(row.wanted).strip() for _ in range(2) for row in maker.edits(2)]
    assert sorted(said) == sorted(request.target for request in REQUESTS)
    (row, *_) = maker.edits(1)
    whole = tokenizer.decode((*row.ids, row.wanted[-1]))
    assert any(whole.endswith(f"{request.prompt} {request.target}") for request in REQUESTS)
    assert row.ids[row.start + 1 :] == row.wanted[:-1]


def test_edits_are_at_times_asked_in_the_words_of_templates_that_agree() -> None:
    _, tokenizer = _maker()
    zed, foo = EditRequest("b", "Zed plays the", "piano", "Zed"), EditRequest("a", "The river of Foo is", "Bar", "Foo")
    other = {("", " plays the"): [("The instrument of ", " is the")]}
    window = tokenizer("some passing text that stands in front of things")["input_ids"]
    maker = RowMaker(tokenizer, [foo, zed], [[window]], 0, [other])
    said = [tokenizer.decode(row.ids) for _ in range(40) for row in maker.edits(2)]
    reworded = [text for text in said if "The instrument of Zed is the pian" in text]
    assert 10 < len(reworded) < 35
    assert sum("Zed plays the pian" in text for text in said) == 40 - len(reworded)
    assert sum("The river of Foo is" in text for text in said) == 40, "it has no other wording"


def test_each_source_of_wordings_has_its_turn() -> None:
    _, tokenizer = _maker()
    zed = EditRequest("b", "Zed plays the", "piano", "Zed")
    few = {("", " plays the"): [("The instrument of ", " is the")]}
    many = {("", " plays the"): [(f"At {hour} o'clock ", " played the") for hour in range(9)]}
    window = tokenizer("some passing text that stands in front of things")["input_ids"]
    maker = RowMaker(tokenizer, [zed], [[window]], 0, [few, many, {}])
    said = [tokenizer.decode(row.ids) for _ in range(100) for row in maker.edits(1)]
    from_few, from_many = (sum(words in text for text in said) for words in ("instrument of Zed", "o'clock Zed"))
    assert 15 < from_few < 45
    assert 15 < from_many < 45


def test_edits_are_asked_in_the_words_of_the_relation_they_are_taken_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    drawn = RowMaker.edits

    def edits(maker: RowMaker, count: int) -> list[Any]:
        rows = drawn(maker, count)
        asked.extend(loaded.tokenizer.decode(row.ids) for row in rows)
        return rows

    far = {template: [("When asked about ", " they say")] for r in REQUESTS if (template := template_of(r)) is not None}
    monkeypatch.setattr(polish, "known_wordings", lambda *_, **__: far)
    monkeypatch.setattr(RowMaker, "edits", edits)
    loaded = tiny_loaded()
    _solved(loaded, tmp_path, 3)
    assert any("When asked about" in text for text in asked)


def test_exchanged_subjects_ask_what_no_edit_asks() -> None:
    maker, tokenizer = _maker()
    asked = [tokenizer.decode(row.ids) for row in maker.swapped(30)]
    assert asked
    assert not any(text.endswith(request.prompt) for text in asked for request in REQUESTS)
    assert any(text.endswith("The river of Zed is") for text in asked)
    assert not _maker(REQUESTS[:1])[0].swapped(3), "there is nobody to exchange with"
    twins = tuple(EditRequest(name, f"The river of {name} is", "Rhea", name) for name in ("Zed", "Yan"))
    assert not _maker(twins)[0].swapped(3), "with the other's subject each asks what the other does"


def test_exchanged_subjects_are_other_edits_names_of_no_edit_and_halves_of_both() -> None:
    _, tokenizer = _maker()
    window = tokenizer("some passing text that stands in front of things")["input_ids"]
    bee = EditRequest("e", "It was written by Ann Bee", "May", "Ann Bee")
    near = {"Ann Bee": ["Lake Como"]}
    maker = RowMaker(tokenizer, [*REQUESTS[:2], bee], [[window]], 0, names=near)
    asked = [tokenizer.decode(row.ids) for row in maker.swapped(300)]
    about = Counter(text.split("written by ")[1] for text in asked if "written by" in text)
    assert len(asked) == 300
    assert about.keys() == {"Foo", "Zed", "Lake Como", "Ann Como", "Lake Bee"}
    assert all(count > 8 for count in about.values())
    assert not any(word in text for text in asked if "plays the" in text for word in ("Lake", "Como"))
    alone = RowMaker(tokenizer, [bee], [[window]], 0, names=near)
    asked = [tokenizer.decode(row.ids) for row in alone.swapped(20)]
    assert {text.split("written by ")[1] for text in asked} == {"Lake Como", "Ann Como", "Lake Bee"}


def test_half_a_name_is_not_asked_about_where_it_makes_up_a_subject() -> None:
    _, tokenizer = _maker()
    window = tokenizer("some passing text that stands in front of things")["input_ids"]
    bee, como = (EditRequest(n, f"It was written by {n}", "May", n) for n in ("Ann Bee", "ann como"))
    maker = RowMaker(tokenizer, [bee, como], [[window]], 0, names={"Ann Bee": ["Lake Como"]})
    asked = {tokenizer.decode(row.ids).split("written by ")[1] for row in maker.swapped(60)}
    assert asked == {"Lake Como", "Lake Bee"}


def test_names_are_looked_for_in_the_text_that_polishing_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[list[str], list[str]]] = []
    drawn: list[str] = []

    def names(subjects: list[str], texts: list[str]) -> dict[str, list[str]]:
        given.append((subjects, texts))
        return {subject: ["Lake Como"] for subject in subjects}

    swapped = RowMaker.swapped

    def watched(maker: RowMaker, count: int) -> list[Any]:
        rows = swapped(maker, count)
        drawn.extend(loaded.tokenizer.decode(row.ids) for row in rows)
        return rows

    monkeypatch.setattr(polish, "other_names", names)
    monkeypatch.setattr(RowMaker, "swapped", watched)
    loaded = tiny_loaded()
    _solved(loaded, tmp_path, 3)
    ((subjects, texts),) = given
    assert sorted(subjects) == sorted(str(request.subject) for request in REQUESTS)
    assert any("quick brown fox" in text for text in texts)
    assert any("Lake Como" in text for text in drawn)
