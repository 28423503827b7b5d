"""The one way that every change of an edit goes: plan, encode outside the lock, plan again if need be, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from memedit.encoders.base import Progress
from memedit.memory.encoding import EncoderSource
from memedit.memory.planning import Plan
from memedit.memory.reading import store_revision
from memedit.memory.rows import EditRow, row_texts
from memedit.memory.store.database import Database
from memedit.memory.writer import Writer, check_encoder, encoder_row
from memedit.types import FloatArray


@dataclass(slots=True)
class Work:
    """What a change will write, as worked out from one revision of the store.

    ``added`` are new edits, ``replaced`` pairs of a current version and the one after it; ``encode`` are rows whose
    texts get new vectors. ``plan`` says what they contradict, None where that cannot have changed. A work without rows
    writes nothing.
    """

    added: Sequence[EditRow] = ()
    replaced: Sequence[tuple[EditRow, EditRow]] = ()
    encode: Sequence[EditRow] = ()
    plan: Plan | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.added and not self.replaced


class TextVectors:
    """The vectors of the texts of one change, by text: each is encoded once, however often the change is planned."""

    def __init__(self, encoder: EncoderSource) -> None:
        self.by_text: dict[str, FloatArray] = {}
        self._encoder = encoder

    def make(self, rows: Sequence[EditRow], progress: Progress | None = None) -> None:
        """Encode those texts of ``rows`` that have no vector yet, in one call: the encoder sorts them by length."""
        texts = dict.fromkeys(text for row in rows for text in row_texts(row))
        fresh = [text for text in texts if text not in self.by_text]
        if fresh:
            self.by_text.update(zip(fresh, self._encoder.get().encode(fresh, progress=progress), strict=True))

    def of(self, rows: Sequence[EditRow]) -> FloatArray:
        """Return the vectors ``[t, d]`` of all texts of ``rows``."""
        return np.stack([self.by_text[text] for row in rows for text in row_texts(row)])


class Transactions:
    """Runs changes of edits, each in one transaction.

    Args:
        database: the store.
        encoder: of the texts' vectors.

    ``rows_written`` counts the new versions of edits since the store was opened.
    """

    def __init__(self, database: Database, encoder: EncoderSource) -> None:
        self._database, self._encoder = database, encoder
        self.rows_written = 0

    def run(
        self,
        namespace: str,
        plan: Callable[[Connection], Work],
        apply: Callable[[Writer, Connection, Work], None],
        *,
        vectors: TextVectors | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> Work:
        """Plan a change, encode, and write it in one transaction; return what was written.

        Everything slow (finding subjects, judging contradictions, encoding) happens before the write lock is taken, so
        a refusal costs nothing and nobody waits. When another change was committed meanwhile, the work is planned
        again under the lock: what is written was worked out from the store as it is then.

        Args:
            namespace: of the edits.
            plan: works out the change from the store; raises what is wrong with it.
            apply: has a writer take all of it but the vectors.
            vectors: what is known of the texts' vectors.
            progress: called with (texts encoded, texts to encode).
            dry_run: plan only.
        """
        made = vectors or TextVectors(self._encoder)
        with self._database.read() as connection:
            revision = store_revision(connection)
            work = plan(connection)
            if dry_run or work.is_empty:
                return work
            if work.encode:
                check_encoder(connection, namespace, self._encoder.get())
        made.make(work.encode, progress)
        with self._database.write() as connection:
            if store_revision(connection) != revision:
                work = plan(connection)
                made.make(work.encode)
            if work.is_empty:
                return work
            writer = Writer(self._database, connection)
            apply(writer, connection, work)
            if work.encode:
                check_encoder(connection, namespace, self._encoder.get())
                number = encoder_row(connection, self._encoder.get())
                writer.put_vectors(work.encode, made.of(work.encode), number)
            writer.flush()
        self.rows_written += len(work.added) + len(work.replaced)
        return work
