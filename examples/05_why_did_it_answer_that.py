"""Streaming, a dry run, and the reasons behind each decision."""

from memedit import EditableModel, EditMemory

QUESTIONS = [
    "When does the Harbour Street Library close on Fridays?",
    "Until what time is the Harbour Street Library open on a Friday?",
    "Who is the architect of the Harbour Street Library?",
    "When does the British Museum close on Fridays?",
]


def main() -> None:
    with EditMemory(":memory:") as memory:
        memory.add("When does the Harbour Street Library close on Fridays?", "at 8 p.m.")
        model = EditableModel.from_pretrained("smollm2", memory=memory)

        for question in QUESTIONS:
            decision = model.explain(question).decision
            best = decision.considered[0] if decision.considered else None
            print(question)
            print(f"  fires: {bool(decision.fired)}, threshold {decision.threshold:.2f}, scope {decision.scope}")
            if best is not None:
                shown = ("verbatim", "subject_words", "relation_words", "relation_cosine")
                reasons = ", ".join(f"{name} {best.reasons[name]:.2f}" for name in shown if name in best.reasons)
                print(f"  best score {best.score:.3f}, cosine {best.similarity:.2f}, {reasons}")

        print("streamed:", end=" ")
        for piece in model.stream(QUESTIONS[0], max_new_tokens=20, do_sample=False):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
