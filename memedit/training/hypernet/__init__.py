"""Training hypernetworks: presets, lessons over frozen lower layers, trainer."""
