"""Results as files: results.json, manifest.json, one HTML page, and tables for the terminal."""
