"""Tools for whole caches: list, describe, verify, repair, collect garbage, merge, export."""
