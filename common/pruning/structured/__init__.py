"""Smaller models out of pruned ones: rows and filters that are pruned whole are taken out."""
