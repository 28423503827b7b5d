"""The command line: parses arguments, calls a workflow or the runtime, prints."""
