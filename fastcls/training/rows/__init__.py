"""Rows to train on, from a cache or from images, in the order of an epoch."""
