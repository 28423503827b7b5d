"""Where a model recalls facts, as one HTML page of heat maps."""

from memedit.consolidation.trace import KINDS, PLACES, Trace
from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.svg import heat_map


def trace_page(trace: Trace, model: str) -> str:
    """Return what a tracing found as one HTML document: a heat map a kind, tokens down, layers across."""
    titles = {
        "state": "hidden state",
        "mlp": f"MLP, {trace.window} layers",
        "attention": f"attention, {trace.window} layers",
    }
    figures = [
        (
            f"Probability of the answer that returns, restoring the {titles[kind]}",
            heat_map(trace.effects[kind].tolist(), PLACES, x_label="layer", outlined=trace.layers),
        )
        for kind in KINDS
    ]
    return page("trace.html", title=f"memedit: where {model} recalls facts", model=model, trace=trace, figures=figures)
