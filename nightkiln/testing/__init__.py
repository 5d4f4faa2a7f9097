"""Stand-ins that cannot be told from the real thing, for tests, demos and plug-ins."""
