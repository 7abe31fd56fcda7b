"""A classifier as an HTTP service."""
