"""Takes finished outputs out of a store, in forms that other tools read.

An export is a plan and its parts. The plan is the answer to ``--where`` at one moment, in a fixed
order, with a name for every output; it is written down first, so whatever the store learns
meanwhile changes nothing. A part is a shard, or so many loose files: it is written aside, synced,
given its names, and then a record says that it is whole. Whoever dies in between is continued by
the same command, which makes the parts without a record; both ways give the same bytes.
``manifest.json`` is last: where it is, all is.

``nightkiln.export.exporting.export`` is the way in.
"""
