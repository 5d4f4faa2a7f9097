"""The simulated market as Vast: its HTTP API, and real machines behind it."""
