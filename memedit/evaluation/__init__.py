"""Evaluation: data sets, metrics, protocols and reports; it knows no adapter, only what answers a request."""
