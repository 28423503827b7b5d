"""What a server keeps of its own work: the request log, quotas, figures by the minute, when keys were last used."""

from memedit.server.keeping.figures import FigureKeeper
from memedit.server.keeping.gauges import KeptGauges
from memedit.server.keeping.observer import Observer
from memedit.server.keeping.quotas import QuotaKeeper
from memedit.server.keeping.request_log import RequestRecorder
from memedit.server.keeping.upkeep import Upkeep

__all__ = ["FigureKeeper", "KeptGauges", "Observer", "QuotaKeeper", "RequestRecorder", "Upkeep"]
