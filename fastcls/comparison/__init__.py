"""Which base, and which run, is better on the user's images: side by side, with intervals."""
