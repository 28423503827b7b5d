"""Contradictions, superseding, withdrawing, and the memory as it stood before: no language model needed."""

from datetime import UTC, datetime

from memedit import ConflictError, EditMemory


def main() -> None:
    with EditMemory(":memory:") as memory:
        first = memory.add("Who is the mayor of Maren Bay?", "Ines Okafor", source="town hall")
        again = memory.add("Who is the mayor of Maren Bay?", "Ines Okafor")
        print("adding the same edit twice changes nothing:", first.id == again.id)

        try:
            memory.add("Which person is mayor of Maren Bay?", "Tomasz Wilk")
        except ConflictError as error:
            print("refused, though worded differently:", error.reason)

        before = datetime.now(UTC)
        second = memory.supersede(first.id, target="Tomasz Wilk")
        print("in force now:", [edit.target for edit in memory.list(state="active")])
        print("in force before:", [edit.target for edit in memory.as_of(before)])

        memory.delete(second.id)
        print("after withdrawing:", [edit.target for edit in memory.list(state="active")])
        memory.restore(second.id)
        print("after restoring:", [edit.target for edit in memory.list(state="active")])
        for change in memory.history(first.id):
            print(f"  version {change.edit.version}: {change.action}, {change.edit.target}")


if __name__ == "__main__":
    main()
