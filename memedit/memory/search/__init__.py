"""Look-ups: which edits a query may fall under, by neighbours of its vector and by the subjects it names."""
