"""Classifiers in the formats of other runtimes: written, verified, and run."""
