"""Whole models out of a run, and into one: tickets, the global model, θ_0 from elsewhere."""
