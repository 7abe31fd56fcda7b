"""One HTML page about a run: what it was trained on, how well it does, where it errs, and what to do next."""
