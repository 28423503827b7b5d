"""Numbered migrations of the edit memory's schema.

Each is a frozen tuple of SQL statements; what is released is never edited, a new number is added instead. The SQL
is portable: only the type names in braces differ by database. They are applied by fifty lines of our own
(:mod:`memedit.memory.migrations.apply`) rather than by alembic, because a memory is opened by every command-line call
and importing ``alembic.command`` alone takes 0.4 s, while opening must stay under 50 ms; there are no branches to
merge, and "apply every number above the recorded one, in one transaction" is all that is needed.
"""

from memedit.memory.migrations.apply import LATEST, MIGRATIONS, Migration, check_version, migrate, recorded_version

__all__ = ["LATEST", "MIGRATIONS", "Migration", "check_version", "migrate", "recorded_version"]
