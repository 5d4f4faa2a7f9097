"""A whole control room on one machine: Prefect's server, its worker, and what they need to know.

    checking     what must be there before anything is started
    environment  what each process is told by its environment, and what it must not know
    processes    starting what stays, telling it to end, and knowing it again
    book         what was started, in this user's state folder
    asking       the server's API
    opening      ``nightkiln up``
    closing      ``nightkiln down``

Prefect is driven as others drive it: by its command line, as processes of its own, and by the API
of its server. It is never imported.
"""
