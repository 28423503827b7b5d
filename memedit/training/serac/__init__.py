"""Training SERAC: the choice of layers and the counterfactual model's trainer."""
