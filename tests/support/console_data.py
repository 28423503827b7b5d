"""A memory with something of everything that the console shows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memedit.consolidation.records import SolvedEdit, write_record
from memedit.consolidation.verdicts import Gate, Verdict
from memedit.memory import Actor, EditMemory, Figures, JudgedEdit, LoggedRequest, Quota, Role, request_id
from memedit.workflows.consolidate.versions import version_store
from support.version_files import made_up_record

GATES = (
    Gate("efficacy", Verdict.PASS, "every edit holds", 2, 100.0, 0.0),
    Gate("specificity", Verdict.WARN, "a little harm cannot be excluded", 120, 96.7, 98.3, "%", 0.31, "McNemar"),
    Gate("perplexity", Verdict.PASS, "within 1%", 40, 17.21, 17.18, "", 0.0004, "paired t"),
    Gate("capability", Verdict.SKIPPED, "no file of questions was given"),
)
PEOPLE = (("Norvik", "Ole Berg"), ("Sudvik", "Ida Lund"), ("Ostvik", "Jon Vik"), ("Vestvik", "Liv Dahl"))
LONG = "Donaudampfschifffahrtsgesellschaftskapitaen" * 6


def build(verdict: Verdict) -> Any:
    """Make a version's folder with a record of that verdict."""

    def made(name: str, folder: Path) -> None:
        edits = (SolvedEdit("a", "h", True), SolvedEdit("b", "h", False, "did not hold"))
        reasons = ("specificity: a little harm cannot be excluded",) if verdict is Verdict.WARN else ()
        record = made_up_record(name, edits, gates=GATES, verdict=verdict, reasons=reasons, seconds={"solve": 41.0})
        write_record(folder, record)

    return made


def fill(memory: EditMemory) -> None:
    """Edits, their history, contradictions, requests, feedback, keys, quotas, versions and a day of figures."""
    ann, _ = memory.keys.create("ann", roles=[Role.EDIT, Role.GENERATE], namespaces=["default"], edits=50)
    memory.keys.create("reports", roles=[Role.READ], tokens_per_minute=9_000, requests_per_minute=60, logged=False)
    memory.keys.revoke(memory.keys.create("gone", roles=[Role.ADMIN])[0].id)
    memory.keys.used({ann.id: datetime.now(UTC) - timedelta(minutes=7)})
    with memory.as_actor(Actor(f"ann/{ann.id}", "request-1")):
        edits = [
            memory.add(
                f"Who is the mayor of {place}?", name, subject=place, source="minutes", metadata={"team": "town"}
            )
            for place, name in PEOPLE
        ]
        memory.update(edits[0].id, target="Eva Holm", paraphrases=["Who leads Norvik?"])
        memory.add("Who leads Tolvik?", "Ole", subject="Tolvik")
        memory.add("Who runs Tolvik?", "Per Lie", subject="Tolvik", source="minutes")
    memory.add(LONG, LONG, subject=LONG, source=LONG, metadata={LONG: LONG})
    memory.add("What does the invoice service retry?", "Three times, then the dead-letter queue.", namespace="billing")
    memory.delete(edits[3].id)
    memory.quotas.set("default", Quota(edits=10, tokens_per_minute=5_000))
    memory.quotas.set("billing", Quota(edits=1))
    rows = [_request(edits, number, f"ann/{ann.id}") for number in range(12)]
    memory.request_log.write(rows)
    say = {"namespace": "default", "actor": f"ann/{ann.id}"}
    memory.feedback.add(edits[0].id, rows[0].query, should_fire=False, request=rows[0].id, **say)
    memory.feedback.add(edits[1].id, "Tell me of Sudvik's mayor", should_fire=True, **say)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for minute in range(0, 1_400, 20):
        busy = 40 + 30 * (minute % 360) / 360
        values = {"requests": busy, "prompts": busy, "edited": busy / 3, "read": 900, "written": 30 * busy}
        values |= {"lookups": busy, "lookup_seconds": busy * 0.009, "firsts": busy, "first_seconds": busy * 0.12}
        values |= {"errors": 0, "refused": minute % 7, "running": 3, "waiting": 0}
        memory.figures.write(
            Figures(now - timedelta(minutes=minute), "one", values), forget_before=now - timedelta(days=2)
        )
    if memory.url != ":memory:":
        store = version_store(memory)
        store.promote(store.make(build(Verdict.PASS)))
        store.make(build(Verdict.WARN))


def _request(edits: list[Any], number: int, actor: str) -> LoggedRequest:
    place = PEOPLE[number % 4][0]
    fired = number % 3 == 0
    judged = JudgedEdit(edits[number % 4].id, 0.93 if fired else 0.31, fired), JudgedEdit(edits[1].id, 0.12)
    return LoggedRequest(
        id=request_id(),
        at=datetime.now(UTC) - timedelta(minutes=12 - number),
        namespace="default",
        actor=actor if number % 2 else "anonymous",
        request=f"request-{number}",
        route="/v1/chat/completions",
        query=f"Who is the mayor of {place}'s sister town?" if number < 11 else LONG,
        earlier=("Hello there", "Hi! How can I help?"),
        answer=f"The mayor is {PEOPLE[number % 4][1]}.",
        model="small",
        status="ok" if number % 5 else "cancelled",
        seconds=0.4 + number / 10,
        first_token=0.11,
        prompt_tokens=21,
        completion_tokens=9,
        revision=7,
        adapter="in_context" if fired else None,
        scope="subject",
        threshold=0.25,
        considered=tuple(dict.fromkeys(judged)),
    )
