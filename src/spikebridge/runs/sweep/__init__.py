"""Sweeps: a search for settings, judged on validation recordings alone."""
