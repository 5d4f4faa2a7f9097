"""Decisions and words: standard library only, no clock, no randomness, no I/O."""
