"""The consolidation job on a tiny taught model: what it chooses, writes, publishes, undoes, and survives."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from memedit.consolidation import ConsolidationSettings
from memedit.consolidation.ledger import Action
from memedit.consolidation.records import VersionRecord
from memedit.consolidation.verdicts import GateLimits, Limits, Verdict
from memedit.consolidation.versions import VersionStore
from memedit.errors import (
    ConfigError,
    DatasetError,
    EditNotFoundError,
    FingerprintMismatchError,
    InputError,
    StoreBusyError,
)
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.runtime import EditableModel
from memedit.types import Edit, EditState
from memedit.workflows import consolidate
from memedit.workflows.consolidate import solving
from memedit.workflows.consolidate.clock import JobProgress
from memedit.workflows.consolidate.planning import ARTEFACTS, row_tokens
from memedit.workflows.consolidate.probes import read_probes
from memedit.workflows.consolidate.schedule import Schedule, due, run_schedule
from memedit.workflows.consolidate.settings import JobSettings, ProbeFiles, settings_like
from memedit.workflows.consolidate.states import only_runner
from support.hashing_encoder import HashingEncoder
from support.taught_model import SUBJECTS, answer_of, other_than, prompt_of, taught_model

pytestmark = pytest.mark.slow

GENTLE = ConsolidationSettings(
    layers=(0, 1), steps=2, stop_loss=0.0, contexts=1, l2=1e9, null_space_threshold=1e9, sensitivity_tokens=64
)
"""A solve that changes next to nothing: edits with the model's own answer pass their check, the others fail it."""
SETTINGS = JobSettings(
    solver=GENTLE,
    limits=GateLimits(
        efficacy=Limits(60.0, 10.0),
        capability=Limits(60.0, 90.0),
        specificity=Limits(60.0, 90.0),
        perplexity=Limits(60.0, 90.0),
    ),
    statistics_tokens=600,
    perplexity_tokens=16,
    specificity_probes=8,
    wordings=0,  # spares these tests the encoder
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return taught_model()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[EditMemory]:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder(64)) as found:
        yield found


@pytest.fixture
def store(memory: EditMemory) -> VersionStore:
    return consolidate.version_store(memory)


def known(memory: EditMemory, *subjects: str, **fields: Any) -> list[Edit]:
    """Add edits that the model answers anyway, so that their check passes."""
    return [memory.add(prompt_of(s), answer_of(s), subject=s, **fields) for s in subjects]


def unknown(memory: EditMemory, *subjects: str) -> list[Edit]:
    """Add edits that the gentle solve cannot bring about, so that their check fails."""
    return [memory.add(prompt_of(s), other_than(s), subject=s, ground_truth=answer_of(s)) for s in subjects]


def states(memory: EditMemory) -> dict[str, EditState]:
    return {edit.subject or "": edit.state for edit in memory.list()}


def champion(store: VersionStore) -> VersionRecord:
    found = store.champion()
    assert found is not None
    return found


def test_every_edit_is_served_by_the_weights_or_by_the_memory(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    known(memory, *"abcd")
    unknown(memory, "e")
    steps: list[JobProgress] = []
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    result = consolidate.run(memory, loaded, store, SETTINGS, progress=steps.append)
    assert result.published, result.message
    assert all(tensor.equal(before[name]) for name, tensor in loaded.model.state_dict().items())
    assert states(memory) == {
        **dict.fromkeys("abcd", EditState.CONSOLIDATED),
        "e": EditState.ACTIVE,
    }
    record = champion(store)
    assert (len(record.served), len(record.edits), len(record.rejected)) == (4, 4, 1), "the failed one was left out"
    assert [(edit.served, "weights answer" in edit.reason) for edit in record.left_over] == [(False, True)]
    assert record.served_in_chats == (), "the taught model knows no chats: there the memory goes on answering"
    assert [(edit.stored, edit.asked, edit.right) for edit in record.served] == [((True,), 1, 1)] * 4
    link = memory.history(record.served[0].id)[-1]
    assert (link.action, link.other) == ("state", record.name)
    folder = store.folder("champion")
    model = EditableModel.from_pretrained(folder, memory=memory, scope="subject", adapter="in_context")
    by_weights, by_memory = model.plan([prompt_of("a"), prompt_of("e")]).routes
    assert [hit.edit.subject for hit in by_weights.decision.in_weights] == ["a"]
    assert [hit.edit.subject for hit in by_memory.decision.fired] == ["e"]
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == loaded.model.config.vocab_size
    assert {p.name for p in folder.iterdir()} >= {
        "README.md", "report.html", "base.safetensors", "delta.safetensors", "memedit_version.json",
        "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    assert "Edits that stay with the memory" in (folder / "report.html").read_text(encoding="utf-8")
    assert "base_model: " in (folder / "README.md").read_text(encoding="utf-8")
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert {step.stage for step in steps} == {"statistics", "keys and targets", "solve and check", "gates", "write"}


def test_gates_are_measured_and_explained(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    known(memory, "a", "b", paraphrases=["of a is", "of b is"][:0])
    result = consolidate.run(memory, loaded, store, SETTINGS)
    assert result.record is not None
    gates = {gate.name: gate for gate in result.record.gates}
    names = ["efficacy", "paraphrase", "specificity", "perplexity", "capability", "canary", "collapse", "shattering"]
    assert list(gates) == names
    assert gates["collapse"].verdict is Verdict.PASS
    assert "broken sentences: 0" in gates["collapse"].reason
    assert gates["shattering"].candidate == pytest.approx(0.0, abs=0.05), "a gentle change bends next to nothing"
    assert gates["shattering"].verdict in (Verdict.PASS, Verdict.WARN), "it never stops a version"
    assert gates["efficacy"].verdict is Verdict.PASS
    assert (gates["paraphrase"].verdict, gates["canary"].verdict) == (Verdict.SKIPPED, Verdict.SKIPPED)
    assert gates["specificity"].candidate == pytest.approx(100.0)
    assert gates["perplexity"].candidate == pytest.approx(gates["perplexity"].base, rel=1e-3)
    assert all(gate.reason for gate in gates.values())


def test_a_candidate_that_fails_is_rejected_and_nothing_changes(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    unknown(memory, *"abcd")
    known(memory, "e")
    settings = JobSettings(**{**_fields(SETTINGS), "limits": GateLimits(), "rounds": 1})
    result = consolidate.run(memory, loaded, store, settings)
    assert result.record is not None
    assert (result.record.verdict, result.published) == (Verdict.FAIL, False)
    assert "1 of 5 edits" in result.message
    assert store.aliases().named() == {"candidate": None, "champion": None, "previous": None}
    assert [entry.action for entry in store.entries()] == [Action.MADE, Action.REJECTED]
    assert set(states(memory).values()) == {EditState.ACTIVE}
    schedule = Schedule(every_edits=1)
    assert due(memory, store, schedule) is None, "the same edits are not tried again by themselves"
    known(memory, "f")
    assert due(memory, store, schedule) is not None


def test_an_edit_that_no_round_can_help_makes_no_version(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    unknown(memory, "a", "b")
    result = consolidate.run(memory, loaded, store, SETTINGS)
    assert (result.record, store.names()) == (None, [])
    assert "stay with the memory" in result.message


def test_the_plan_counts_polishing_wordings_and_what_is_measured_once(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    known(memory, "a", "b")
    natural = replace(SETTINGS, solver=replace(GENTLE, polish=3, damping=0.02))
    before = consolidate.plan(memory, loaded, store, natural)
    assert not before.sensitivity_kept
    result = consolidate.run(memory, loaded, store, natural)
    assert result.record is not None
    after = consolidate.plan(memory, loaded, store, natural)
    assert after.sensitivity_kept
    longer = consolidate.plan(memory, loaded, store, replace(natural, solver=replace(natural.solver, polish=300)))
    assert longer.seconds["solve and check"] > 5 * after.seconds["solve and check"]
    assert longer.seconds["gates"] == after.seconds["gates"]
    wordier = consolidate.plan(memory, loaded, store, replace(natural, wordings=80_000))
    assert wordier.seconds["solve and check"] > 5 * after.seconds["solve and check"]


def test_adding_more_solves_for_all_and_nothing_new_is_nothing_to_do(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    known(memory, "a", "b")
    consolidate.run(memory, loaded, store, SETTINGS)
    again = consolidate.run(memory, loaded, store, SETTINGS)
    assert (again.record, "nothing to do" in again.message) == (None, True)
    known(memory, "c")
    assert consolidate.plan(memory, loaded, store, SETTINGS).to_compute == 1
    consolidate.run(memory, loaded, store, SETTINGS)
    assert len(champion(store).edits) == 3
    assert store.aliases().previous == "v0001"


def test_withdrawing_takes_an_edit_out_of_memory_and_weights(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    first, second = known(memory, "a", "b")
    consolidate.run(memory, loaded, store, SETTINGS)
    result = consolidate.withdraw(memory, loaded, store, [second.id], SETTINGS)
    assert result.published
    assert [edit.id for edit in champion(store).edits] == [first.id]
    assert memory.get(second.id).state is EditState.RETIRED
    assert settings_like(champion(store).settings).solver == GENTLE
    difference = consolidate.diff(store, "previous", "champion")
    assert (difference.added, difference.removed, difference.changed) == ((), (second.id,), ())
    assert all(value > 0 for value in difference.distance.values())
    only = consolidate.withdraw(memory, loaded, store, [first.id], SETTINGS)
    assert (only.record, store.aliases().champion) == (None, None), "without edits the plain base is right"
    with pytest.raises(EditNotFoundError):
        consolidate.withdraw(memory, loaded, store, ["absent"], SETTINGS)


def test_withdrawing_equals_never_having_had_it(tmp_path: Path, loaded: LoadedModel) -> None:
    deltas = []
    for name in ("with", "without"):
        with EditMemory(tmp_path / f"{name}.db", encoder=HashingEncoder(64)) as memory:
            store = consolidate.version_store(memory)
            known(memory, "a", "b")
            if name == "with":
                extra = known(memory, "c")[0]
                consolidate.run(memory, loaded, store, SETTINGS)
                consolidate.withdraw(memory, loaded, store, [extra.id], SETTINGS)
            else:
                consolidate.run(memory, loaded, store, SETTINGS)
            model = AutoModelForCausalLM.from_pretrained(store.folder("champion"))
            deltas.append(model.state_dict())
    for key, tensor in deltas[0].items():
        assert tensor.allclose(deltas[1][key], rtol=0, atol=1e-7)


def test_rollback_changes_who_serves_whom(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    known(memory, "a")
    consolidate.run(memory, loaded, store, SETTINGS)
    known(memory, "b")
    consolidate.run(memory, loaded, store, SETTINGS)
    assert states(memory) == {"a": EditState.CONSOLIDATED, "b": EditState.CONSOLIDATED}
    assert consolidate.rollback(memory, store).champion == "v0001"
    assert states(memory) == {"a": EditState.CONSOLIDATED, "b": EditState.ACTIVE}
    assert consolidate.promote(memory, store, "v0002").champion == "v0002"
    assert states(memory) == {"a": EditState.CONSOLIDATED, "b": EditState.CONSOLIDATED}


def test_a_kill_between_promotion_and_states_loses_nothing(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(memory, "a")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("memedit.workflows.consolidate.job.sync_states", die)
        with pytest.raises(KeyboardInterrupt):
            consolidate.run(memory, loaded, store, SETTINGS)
    assert store.aliases().champion == "v0001"
    assert states(memory) == {"a": EditState.ACTIVE}
    model = EditableModel.from_pretrained(
        store.folder("champion"), memory=memory, scope="subject", adapter="in_context"
    )
    assert model.explain(prompt_of("a")).decision.fired == (), "the version knows by itself what is in it"
    consolidate.run(memory, loaded, store, SETTINGS)
    assert states(memory) == {"a": EditState.CONSOLIDATED}, "the next job puts the states right"


def test_an_interrupted_job_goes_on_from_the_keys_and_targets_it_has(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(memory, *SUBJECTS[:4])
    monkeypatch.setattr(solving, "_SAVED_AT_ONCE", 1)
    narrow = JobSettings(
        **{**_fields(SETTINGS), "solver": ConsolidationSettings(**{**_fields(GENTLE), "batch_tokens": 16})}
    )

    def stop(progress: JobProgress) -> None:
        if progress.stage == "keys and targets" and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consolidate.run(memory, loaded, store, narrow, progress=stop)
    left = consolidate.plan(memory, loaded, store, narrow).to_compute
    assert 0 < left < 4
    assert memory.lease("consolidation") is None
    assert consolidate.run(memory, loaded, store, narrow).published


def test_what_cannot_become_weights_stays_with_a_reason(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    known(memory, "a")
    memory.add("of b is", "no", subject="b", kind="refusal")
    memory.add("of c is", "so", subject="c", valid_at=datetime(2020, 1, 1, tzinfo=UTC))
    memory.add("of d is", "x" * 60, subject="d")
    memory.add("word " * 300 + "of e is", "so", subject="e")
    planned = consolidate.plan(memory, loaded, store, SETTINGS)
    assert (planned.edits, planned.new) == (1, 1)
    reasons = [reason for reason, _ in planned.skipped]
    assert len(reasons) == 4
    assert any("has a prompt of" in reason and "at most 256 become weights" in reason for reason in reasons)
    assert any("has a target of" in reason and "at most 32 become weights" in reason for reason in reasons)
    assert planned.total_seconds > 0
    assert planned.memory_bytes > 0
    assert store.names() == [], "a plan writes nothing"
    assert memory.get_artefacts(ARTEFACTS, "x", [memory.list()[0].id]) == {}


def test_with_nothing_to_solve_for_a_job_says_what_there_is(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    empty = consolidate.run(memory, loaded, store, SETTINGS)
    assert (empty.record, empty.message) == (None, "nothing to do: the memory holds no edits to consolidate")
    edit = memory.add("of b is", "no", subject="b", kind="refusal")
    blocked = consolidate.run(memory, loaded, store, SETTINGS)
    assert blocked.record is None
    assert f"no edit can become weights; {edit.id}, one of 1, is of kind refusal" in blocked.message


def test_a_plan_reckons_with_long_prompts(memory: EditMemory) -> None:
    short = memory.add("of a is", "so", subject="a")
    long = memory.add("word " * 160 + "of b is", "so", subject="b")
    assert row_tokens([short]) < 10 < 190 < row_tokens([long]) < 220
    assert row_tokens([short, long]) == pytest.approx((row_tokens([short]) + row_tokens([long])) / 2)
    assert row_tokens([]) == 0.0


def test_a_filter_takes_only_edits_of_that_metadata(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    known(memory, "a", metadata={"team": "x"})
    known(memory, "b", metadata={"team": "y"})
    consolidate.run(memory, loaded, store, SETTINGS, metadata={"team": "x"})
    assert states(memory) == {"a": EditState.CONSOLIDATED, "b": EditState.ACTIVE}
    consolidate.run(memory, loaded, store, SETTINGS, metadata={"team": "y"})
    assert states(memory) == {"a": EditState.CONSOLIDATED, "b": EditState.CONSOLIDATED}, "what is there stays"


def test_an_edit_changed_since_is_active_and_solved_for_anew(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    first, _ = known(memory, "a", "b")
    consolidate.run(memory, loaded, store, SETTINGS)
    memory.update(first.id, target=other_than("a"))
    assert states(memory)["a"] is EditState.ACTIVE
    assert consolidate.stale_edits(memory, champion(store)) == [first.id]
    consolidate.run(memory, loaded, store, SETTINGS)
    assert [edit.id for edit in champion(store).edits] != [first.id]
    assert consolidate.stale_edits(memory, champion(store)) == []


def test_one_job_at_a_time(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    known(memory, "a")
    with only_runner(memory), pytest.raises(StoreBusyError, match="is being consolidated by"):
        consolidate.run(memory, loaded, store, SETTINGS)
    assert consolidate.run(memory, loaded, store, SETTINGS).published


def test_another_base_model_is_refused(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    known(memory, "a")
    consolidate.run(memory, loaded, store, SETTINGS)
    other = LoadedModel(loaded.model, loaded.tokenizer, "other", "0" * 64)
    with pytest.raises(FingerprintMismatchError, match="same frozen base"):
        consolidate.run(memory, other, store, SETTINGS)


def test_small_changes_are_also_written_as_lora(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    known(memory, "a")
    consolidate.run(memory, loaded, store, JobSettings(**{**_fields(SETTINGS), "lora": True}))
    assert (store.folder("champion") / "lora" / "adapter_model.safetensors").is_file()


def test_a_memory_without_a_file_needs_a_folder(loaded: LoadedModel, tmp_path: Path) -> None:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        with pytest.raises(InputError, match="--versions"):
            consolidate.version_store(memory)
        known(memory, "a")
        assert consolidate.run(memory, loaded, consolidate.version_store(memory, tmp_path / "v"), SETTINGS).published


def test_schedules_say_why_a_job_is_due(memory: EditMemory, loaded: LoadedModel, store: VersionStore) -> None:
    now = datetime.now(UTC)
    assert due(memory, store, Schedule(every_edits=1)) is None
    first, _ = known(memory, "a", "b")
    assert due(memory, store, Schedule(every_edits=3)) is None
    assert "2 edits wait" in str(due(memory, store, Schedule(every_edits=2)))
    aged = Schedule(max_age=timedelta(hours=1))
    assert due(memory, store, aged, now=now) is None
    assert "has waited since" in str(due(memory, store, aged, now=now + timedelta(hours=2)))
    consolidate.run(memory, loaded, store, SETTINGS)
    assert due(memory, store, Schedule(every_edits=1)) is None
    memory.delete(first.id)
    assert "1 were withdrawn" in str(due(memory, store, Schedule(every_edits=1)))


def test_a_schedule_with_nothing_in_it_lists_every_problem() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Schedule()
    with pytest.raises(ConfigError) as caught:
        Schedule(every_edits=0, max_age=timedelta(0), poll_seconds=0)
    assert len(caught.value.problems) == 3


def test_a_cron_line_is_due_once_a_time_has_passed(memory: EditMemory, store: VersionStore) -> None:
    pytest.importorskip("apscheduler")
    schedule = Schedule(cron="0 3 * * *")
    memory.set_setting("consolidation.last_run", "2026-01-01T02:00:00+00:00")
    known(memory, "a")
    assert due(memory, store, schedule, now=datetime(2026, 1, 1, 2, 59, tzinfo=UTC)) is None
    assert "0 3" in str(due(memory, store, schedule, now=datetime(2026, 1, 1, 3, 1, tzinfo=UTC)))
    with pytest.raises(ConfigError, match="cannot be read"):
        Schedule(cron="every night")


def test_the_schedule_runs_jobs_until_it_is_stopped(
    memory: EditMemory, loaded: LoadedModel, store: VersionStore
) -> None:
    import threading

    stop, said, jobs = threading.Event(), list[str](), list[str]()
    known(memory, "a")

    def job(reason: str) -> None:
        jobs.append(reason)
        consolidate.run(memory, loaded, store, SETTINGS)
        if len(jobs) == 1:
            known(memory, "b")
        else:
            stop.set()

    schedule = Schedule(every_edits=1, poll_seconds=0.01)
    run_schedule(memory, store, schedule, job, stop=stop, report=said.append)
    assert len(jobs) == 2
    assert set(states(memory).values()) == {EditState.CONSOLIDATED}
    assert all(line.startswith("consolidating: ") for line in said)


def test_probe_files_of_the_user_take_the_place_of_our_own(memory: EditMemory, tmp_path: Path) -> None:
    edits = [*known(memory, "a"), memory.add("The capital of France is", "Lyon", subject="France")]
    shipped = read_probes(JobSettings(), edits)
    assert len(shipped.prompts) > 100
    assert not any("France" in prompt for prompt in shipped.prompts), "what an edit is about is no probe"
    assert len(shipped.questions) == 80
    rows = [{"prompt": f"Say {i}"} for i in range(9)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    canaries = [{"prompt": "x", "contains": "y"}, {"prompt": "z", "absent": "w"}, {"prompt": "v", "unchanged": True}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, canaries)), encoding="utf-8")
    files = ProbeFiles(specificity=tmp_path / "p.jsonl", canaries=tmp_path / "c.jsonl")
    own = read_probes(JobSettings(probes=files, specificity_probes=3), edits)
    assert own.prompts == ("Say 0", "Say 3", "Say 6")
    assert [canary.unchanged for canary in own.canaries] == [False, False, True]
    (tmp_path / "c.jsonl").write_text('{"prompt": "x", "contains": "y", "absent": "z"}', encoding="utf-8")
    with pytest.raises(DatasetError, match="just one of"):
        read_probes(JobSettings(probes=files), edits)


def test_job_settings_list_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        JobSettings(rounds=0, batch_size=0, publish_on=(Verdict.FAIL,))
    assert len(caught.value.problems) == 3


def _fields(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}
