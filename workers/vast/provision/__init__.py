"""Fetches what a catalog's environment names onto the machine that it runs on.

Sent to the machine as one file (a zip that Python runs), started over SSH, watched by its
status.json; the protocol is in workers/README.md. Standard library only, Python 3.9 or newer. It
may be ended at any time and started again: it goes on where it was.
"""
