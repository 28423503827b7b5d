"""The methods that can be asked for by name: a solver and what goes with it."""

from memedit.consolidation.solvers.alphaedit import alphaedit
from memedit.consolidation.solvers.joint import Method
from memedit.consolidation.solvers.memit import memit
from memedit.consolidation.solvers.plain import plain
from memedit.consolidation.solvers.rome import rome

ALPHAEDIT = Method(alphaedit, keeps_keys=True)
MEMIT = Method(memit)
ROME = Method(rome, top_layer_only=True)
RECT = Method(memit, rect_keep=0.4)
PRUNE = Method(memit, prune=True)
O_EDIT = Method(memit, keeps_off=0.99)
ULTRAEDIT = Method(plain)
MALMEN = Method(plain, own_ridge=True)
RLEDIT = Method(plain, own_ridge=True)
