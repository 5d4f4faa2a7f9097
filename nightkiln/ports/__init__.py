"""The seams between the shell and the outside: small Protocols, one per thing we talk to."""
