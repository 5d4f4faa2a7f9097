"""What one sees of a batch in Prefect: leases as task runs, artifacts, a few lines of log.

Nothing here is in the way of rendering: ``writer`` alone talks to the server, at its own pace, and
what it cannot tell is only not shown. ``names``, ``fleet`` and ``quote_page`` are pure.
"""
