"""Training of the judge: the inventory, what batches label, and that a killed run goes on as it would have."""

import json
import re

import numpy as np
import pytest
import torch

from memedit.errors import DatasetError, InputError
from memedit.scope.judge.model import load_model
from memedit.scope.judge.network import MASK
from memedit.scope.judge.places import with_value
from memedit.training.scope import fitting, inventory, run
from memedit.training.scope.batches import BatchMaker
from memedit.training.scope.calibration import _evened
from memedit.training.scope.draws import Draws
from memedit.training.scope.fitting import Alike, JudgeSettings
from memedit.training.scope.inventory import read_families
from memedit.training.scope.names import masked
from memedit.training.scope.rows import RewordedRow, read_rows
from memedit.training.scope.run import train_judge
from memedit.training.scope.talks import make_talk
from memedit.training.scope.texts import WRITTEN
from memedit.training.scope.wordings import contrasts, derived, mistyped, qualified, referring, terse
from support.scope_bench import HashedWords
from support.tiny_encoder import save_tiny_encoder

pytestmark = pytest.mark.slow


def family(name, relations):
    return {
        "family": name,
        "subjects": [f"the {name} of Arn", f"{name} Bel Cor", f"old {name} Dun"],
        "near_subjects": [[f"the {name} of Arn", f"the {name} of Arm"]],
        "relations": [
            {
                "id": relation,
                "objects": [f"{relation} value", "another"],
                "questions": [f"What {relation} has {{s}}?", f"Tell the {relation} of {{s}}"],
                "statements": [f"The {relation} of {{s}} is {{o}}."],
                "cloze": [f"The {relation} of {{s}} is"],
                "casual": [f"{{s}} {relation}?"],
                "yesno": [f"Is {{o}} the {relation} of {{s}}?"],
                "off": [f"Why has {{s}} a {relation}?"],
            }
            for relation in relations
        ],
        "same": [[relations[0], relations[1]]],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    for name in ("ship", "shop", "song"):
        lines = [family(f"{name} {n}", ["colour", "hue", "weight", "owner"]) for n in range(2)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return folder


@pytest.fixture
def families(files):
    return read_families(sorted(files.glob("*.jsonl")))


@pytest.fixture
def words(tmp_path_factory):
    encoder = HashedWords()
    encoder.folder = save_tiny_encoder(tmp_path_factory.mktemp("tiny"))
    return encoder


def test_the_shipped_inventory_is_whole():
    families = read_families(sorted(inventory.FOLDER.glob("*.jsonl")))
    assert len(families) >= 378
    assert sum(len(one.relations) for one in families) >= 4_548
    for one in families:
        assert len({relation.id for relation in one.relations}) == len(one.relations), one.name
        assert all("{s}" in text for relation in one.relations for text in relation.questions), one.name


def test_a_line_that_is_no_family_is_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"family": "x"}\n', "utf-8")
    with pytest.raises(DatasetError, match=r"bad\.jsonl, line 1"):
        read_families([path])


def test_draws_depend_on_seed_and_step_alone(families):
    first, second = (BatchMaker(Draws(families, (), ("Noise.",), 3)) for _ in range(2))
    first.at(7).texts.of_families()
    assert first.at(2).texts.of_families()[0][:5] == second.at(2).texts.of_families()[0][:5]
    assert first.at(2).pairs.talk(9) == second.at(2).pairs.talk(9) != second.at(3).pairs.talk(9)


def test_labels_say_what_is_known(families, words):
    from memedit.scope.judge.model import start_network

    network, tokenizer = start_network(words.folder)
    alike = Alike(network, tokenizer, families)
    texts, drawn = BatchMaker(Draws(families, (), (), 0)).at(1).texts.of_families(1, 4, 3)
    labels, known = alike.labels(texts, {one.name: one for one in drawn})
    for i, first in enumerate(texts):
        for j, second in enumerate(texts):
            if i == j or first.family != second.family:
                continue
            pair = {first.relation, second.relation}
            if pair == {"colour", "hue"}:
                assert not known[i, j], "a fair reader could take these for one question"
            elif len(pair) == 1:
                assert labels[i, j] == known[i, j] == 1.0
            elif first.unlike == second.relation or pair == {"weight", "owner"}:
                assert (labels[i, j], known[i, j]) == (0.0, 1.0)
    assert (labels == labels.T).all()


@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_what_they_say(families, seed):
    maker = BatchMaker(Draws(families, (), (), seed)).at(0)
    for pair in maker.pairs.named(60):
        assert pair.subject in pair.edit
        assert (pair.label == 0.0) == (pair.kind in ("other name", "name otherwise, other relation"))
    talks = [make_talk(families[0], families[0].relations[2], "the moon", maker._draws.rng) for _ in range(60)]
    for talk in talks:
        assert len(talk.text.split(" || ")) >= 2
        assert talk.kind != "nothing" or not talk.asks


def test_written_questions_hold_a_subject_and_stand_once():
    for group in contrasts():
        assert all("{s}" in text and "{x}" in text for text in group.wordings), group.wordings[0]
        assert len(group.wordings) > 1 < len(set(group.items)) == len(group.items) > 2, group.wordings[0]
    for group in derived():
        texts = [*group.edits, *group.asks, *group.others]
        assert all("{s}" in text for text in texts), group.edits[0]
        assert len(set(texts)) == len(texts), group.edits[0]
    texts = [text for group in terse().values() for text in group]
    assert all("{s}" in text for text in texts)
    assert len(set(texts)) == len(texts)
    assert all(len(group) > 1 for group in terse().values())


def test_of_written_questions_nothing_is_known_beside_others(families, words):
    from memedit.scope.judge.model import start_network

    network, tokenizer = start_network(words.folder)
    alike = Alike(network, tokenizer, families)
    texts, drawn = BatchMaker(Draws(families, (), (), 0)).at(1).texts.of_families(1, 4, 3)
    labels, known = alike.labels(texts, {one.name: one for one in drawn})
    written = [i for i, text in enumerate(texts) if text.family.startswith(WRITTEN)]
    assert len({texts[i].family for i in written}) == 3
    for i in written:
        for j, other in enumerate(texts):
            if other.family != texts[i].family:
                assert not known[i, j]
            elif i != j and other.relation == texts[i].relation:
                assert labels[i, j] == 1.0
            elif i != j and (other.rivals or other.unlike == texts[i].relation):
                assert (labels[i, j], known[i, j]) == (0.0, 1.0)


def town(name, relations=("mayor", "river", "founding")):
    """A family with wordings in three languages."""
    text = {
        "en": ["Who is the {0} of {{s}}?", "Name the {0} of {{s}}"],
        "de": ["Wer ist {0} von {{s}}?", "Nenne {0} von {{s}}"],
        "ru": ["Кто {0} {{s}}?", "Назови {0} {{s}}"],
    }
    return {
        "family": name,
        "subjects": ["Arn", "Bel"],
        "local": {"ru": ["Арн", "Бел"]},
        "relations": [
            {
                "id": relation,
                "objects": ["one", "two"],
                "text": {
                    code: {
                        "questions": [question.format(relation) for question in questions],
                        "statement": f"{code} {relation} {{s}} {{o}}",
                        "casual": f"{code} {relation} {{s}}",
                    }
                    for code, questions in text.items()
                },
            }
            for relation in relations
        ],
    }


def test_wordings_in_other_languages_are_asked_of_edits_mostly_in_english(families, tmp_path):
    path = tmp_path / "languages_x.jsonl"
    path.write_text(json.dumps(town("town")), "utf-8")
    (abroad,) = read_families([path])
    assert (abroad.abroad, families[0].abroad) == (True, False)
    maker = BatchMaker(Draws([*families, abroad], (), (), 0))
    texts = [
        text
        for step in range(30)
        for text in maker.at(step).texts.of_families(2, 3, 4, 0, 1)[0]
        if text.family == "town"
    ]
    english = {True: [], False: []}
    for text in texts:
        if text.unlike is None and text.rivals is None:
            english[text.edit].append(" of " in text.text or text.text.startswith("en"))
    assert np.mean(english[True]) > 0.7 > 0.4 > np.mean(english[False]) > 0.0
    assert not [text for text in maker.at(0).texts.of_families(2, 3, 4)[0] if text.family == "town"], (
        "only where they are asked for"
    )
    pairs = [pair for pair in maker.at(1).pairs.named(300) if pair.kind.startswith("abroad")]
    for pair in pairs:
        other = {"Arn": "Bel", "Бел": "Арн", "Bel": "Arn", "Арн": "Бел"}[pair.subject]
        assert ((other in pair.query) or ({"Arn": "Бел", "Bel": "Арн"}[pair.subject] in pair.query)) == (
            pair.kind == "abroad, other name"
        )
        assert pair.label == (pair.kind == "abroad")
    assert {"abroad", "abroad, other name", "abroad, other relation"} == {pair.kind for pair in pairs}


def test_a_language_a_family_or_a_file_is_left_out(files, monkeypatch, tmp_path):
    for path in files.glob("*.jsonl"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (tmp_path / "languages_x.jsonl").write_text("\n".join(json.dumps(town(name)) for name in ("town", "isle")), "utf-8")
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    kept, back = run._families(["song", "languages_x/isle", "de"], abroad=True)
    assert {family.name for family in back} == {"song 0", "song 1", "isle (languages_x)"}
    (town_,) = (family for family in kept if family.abroad)
    assert set(town_.relations[0].abroad) == {"ru"}
    assert {frozenset(family.relations[0].abroad) for family in back} == {frozenset(), frozenset({"de", "ru"})}
    assert not any(family.abroad for part in run._families(["song"], abroad=False) for family in part)
    with pytest.raises(InputError, match="named fr; there are the files languages_x, ship"):
        run._families(["fr"], abroad=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_memory_is_asked_about_what_it_holds_and_what_it_does_not(families, seed):
    asked = BatchMaker(Draws(families, (), (), seed)).at(0).texts.asked_memories()
    for one in asked:
        assert len(one.edits) == 2
        assert one.wanted is None or one.wanted < 2
        assert MASK in one.query
    relation = re.compile("colour|hue|weight|owner")
    answered = [one for one in asked if one.wanted is not None]
    for one in answered:
        stands = relation.search(one.query.lower())  # typing errors may hide it
        assert stands is None or stands.group() in one.edits[one.wanted][0].lower()
    assert 0.2 < len(answered) / len(asked) < 0.8


def test_the_offset_loses_as_many_answers_as_others_fire():
    groups = np.repeat(np.arange(8), 2)
    labels = np.array([1, 0] * 4 + [0, 0] * 4, float)
    logits = np.array([9, 1, 7, 1, 5, 1, 3, 1, 4, 0, 2, 0, 1, 0, 0.5, 0], np.float32)
    wanted = np.array([True] * 4 + [False] * 4)
    (weight, offset) = _evened([1.0, 0.0], [logits], labels, groups, wanted)
    fires = weight * logits + offset >= 0
    assert [bool(fires[groups == g].any()) for g in range(8)] == [True, True, True, False, True, False, False, False]


def test_rows_of_data_files_are_those_for_training(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"p{n} of S{n}", "subject": f"S{n}", "target_new": "t", "rephrase_prompt": f"S{n}?"}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = read_rows([path])
    assert 0 < len(found) < 20, "half of the rows are kept back"
    assert found[0].rewordings[0].endswith("?")
    path.write_text("{}\n", "utf-8")
    with pytest.raises(DatasetError, match="no training row"):
        read_rows([path])


def test_small_texts():
    assert masked("Is ANN here, ann?", "Ann") == f"Is {MASK} here, {MASK}?"
    assert with_value("The colour is Red.", "red") == "The colour is Red."
    assert with_value("Which colour?", "red") == "Which colour? red"
    assert qualified("When does it open?", "on Fridays") == "When does it open on Fridays?"
    assert referring("What is Ann's age and where is Ann?", "Ann", "she") == "What is her age and where is she?"
    import random

    assert "Mill" in mistyped("closing time of Mill today", random.Random(1), "Mill")


SMALL = JudgeSettings(
    steps=6, relation_first=3, families=1, relations=3, rows=2, hard=6, talks=2, named=2, warmup=2, save_every=2
)  # fmt: skip


@pytest.fixture
def small(files, monkeypatch):
    monkeypatch.setattr(run, "FOLDER", files)


def reworded(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"p{n} of S{n}", "subject": f"S{n}", "target_new": "t", "rephrase_prompt": f"S{n}?"}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.usefixtures("small")
def test_a_killed_run_goes_on_as_it_would_have(words, tmp_path):
    data = [reworded(tmp_path)]
    options = {"leave_out": ["song"], "encoder": words, "settings": SMALL}
    whole = train_judge(data, tmp_path / "whole", **options)

    def die(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_judge(data, tmp_path / "killed", progress=die, **options)
    train_judge(data, tmp_path / "killed", **options)
    one, other = load_model(tmp_path / "whole"), load_model(tmp_path / "killed")
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], atol=2e-3, err_msg=name)
    assert one.notes["left_out"] == ["song"] == whole["left_out"]
    assert one.calibration.both != (0.5, 0.5, 0.0), "calibrated on what was left out"


@pytest.mark.usefixtures("small")
def test_a_resumed_run_knows_the_same_relations_as_alike(words, tmp_path, monkeypatch):
    centres = []

    class Noted(Alike):
        def __init__(self, *given):
            super().__init__(*given)
            centres.append(self._centres)

    monkeypatch.setattr(fitting, "Alike", Noted)

    def die(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    options = {"leave_out": ["song"], "encoder": words, "settings": SMALL}
    data = [reworded(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        train_judge(data, tmp_path / "killed", progress=die, **options)
    train_judge(data, tmp_path / "killed", **options)
    np.testing.assert_array_equal(*centres)


@pytest.mark.usefixtures("small")
def test_what_cannot_be_trained_says_so(words, tmp_path):
    data = [reworded(tmp_path)]
    with pytest.raises(InputError, match="no inventory file, family or language is named nonsense"):
        train_judge(data, tmp_path, leave_out=["nonsense"], encoder=words)
    with pytest.raises(InputError, match="leave inventory files out"):
        train_judge(data, tmp_path, encoder=words)
    with pytest.raises(InputError, match="no files of its own"):
        train_judge(data, tmp_path, leave_out=["song"], encoder=HashedWords())
    with pytest.raises(InputError, match="out of range"):
        JudgeSettings(steps=0)


def test_fitting_learns(words, families, tmp_path):
    from memedit.scope.judge.model import start_network
    from memedit.training.scope.fitting import fit_judge

    torch.manual_seed(0)
    network, tokenizer = start_network(words.folder)
    settings = JudgeSettings(
        steps=300, relation_first=60, families=1, relations=4, rows=0, hard=32, talks=0, named=0, several=0,
        qualified=0, hops=0, contrasts=0, derived=0, written=0,
        learning_rate=3e-3, head_rate=3e-3, warmup=5, save_every=300,
    )  # fmt: skip
    losses = []
    fit_judge(network, tokenizer, families, (), settings=settings, folder=tmp_path, progress=losses.append)
    losses = [state.loss for state in losses]
    assert losses[-1].relation_loss < 0.8 * losses[0].relation_loss
    read = [loss.pair_loss for loss in losses if loss.pair_loss is not None]
    assert read[-1] < 0.9 * read[0]


def test_a_row_without_its_subject_in_the_rewording_is_read_in_full():
    row = RewordedRow("who coined it for the first kings?", "first kings", "Ann", ("Which early monarchs coined?",))
    pairs = BatchMaker(Draws([], [row], (), 0)).at(0).pairs.row(6)
    assert {(pair.query, pair.edit, pair.subject) for pair in pairs} == {
        ("Which early monarchs coined?", "who coined it for the first kings?", "first kings")
    }
