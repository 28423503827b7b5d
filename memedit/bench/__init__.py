"""Benchmarks: each measures one thing and returns its figures; the command line prints them."""
