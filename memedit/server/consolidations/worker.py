"""The process of one job: its orders on stdin, one JSON object a line on stdout about how far it is.

A process of its own, because solving tries its deltas on live weights, which must not be those that answer requests.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from memedit.errors import MemeditError
from memedit.server.consolidations.setup import ConsolidationSetup

Tell = Callable[[dict[str, Any]], None]


def work(orders: dict[str, Any], tell: Tell) -> None:
    """Do what the orders say; tell of progress, then of the result or what went wrong."""
    try:
        tell({"result": _run(orders, tell)})
    except MemeditError as error:
        tell({"error": str(error)})


def _run(orders: dict[str, Any], tell: Tell) -> dict[str, Any]:
    from memedit.workflows import consolidate
    from memedit.workflows.consolidate.settings import JobSettings
    from memedit.workflows.open import load_base

    setup = ConsolidationSetup.parse(orders["setup"])

    def progress(state: Any) -> None:
        tell({"stage": state.stage, "share": state.share, "eta_seconds": state.eta_seconds})

    with setup.opened(orders["namespace"], orders["actor"]) as (memory, store):
        tell({"stage": "loading the base model", "share": 0.0, "eta_seconds": None})
        loaded = load_base(setup.model)
        settings = JobSettings(**orders["settings"])
        if orders["withdraw"]:
            result = consolidate.withdraw(memory, loaded, store, orders["withdraw"], settings, progress=progress)
        else:
            result = consolidate.run(
                memory,
                loaded,
                store,
                settings,
                metadata=orders["metadata"] or None,
                publish=orders["publish"],
                again=orders["again"],
                progress=progress,
            )
    version = None if result.record is None else result.record.name
    return {"message": result.message, "published": result.published, "version": version}


def main() -> None:
    """Entry point of the process."""
    lines = sys.stdout
    sys.stdout = sys.stderr  # libraries that print must not garble the lines

    def tell(document: dict[str, Any]) -> None:
        lines.write(json.dumps(document) + "\n")
        lines.flush()

    work(json.loads(sys.stdin.read()), tell)


if __name__ == "__main__":
    main()
