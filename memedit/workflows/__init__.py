"""Tasks of users that join rooms: open a memory and a model, ask, evaluate, consolidate, calibrate, demonstrate."""
