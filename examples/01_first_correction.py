"""One question before and after a correction, and a question beside it that stays as it was."""

from memedit import EditableModel, EditMemory

QUESTION = "Who founded Northlight Robotics?"
OTHER_WORDS = "Northlight Robotics was founded by whom?"
UNTOUCHED = "Who wrote Romeo and Juliet?"


def main() -> None:
    with EditMemory(":memory:") as memory:
        model = EditableModel.from_pretrained("smollm2", memory=memory)

        def ask(question: str) -> str:
            answer = model.answer(question, max_new_tokens=24, do_sample=False)[0]
            fired = [hit.edit.target for hit in answer.route.decision.fired]
            print(f"  {question}\n    {answer.text.strip()!r}   edits fired: {fired}")
            return answer.text

        print("before:")
        before = [ask(question) for question in (QUESTION, OTHER_WORDS, UNTOUCHED)]
        memory.add(QUESTION, "Priya Raman")
        print("after:")
        after = [ask(question) for question in (QUESTION, OTHER_WORDS, UNTOUCHED)]

        print("corrected:", "Priya Raman" in after[0] and "Priya Raman" not in before[0])
        print("untouched answer is the same:", before[2] == after[2])


if __name__ == "__main__":
    main()
