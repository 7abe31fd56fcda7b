"""Heads: what is put on a trunk, trained by gradients or fitted at once."""
