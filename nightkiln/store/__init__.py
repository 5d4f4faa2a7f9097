"""The store: images first, then one Parquet file per shard of settled jobs, created once.

``Store.open`` is the way in; ``Committer`` writes, ``Claim`` says who may, the views read.
"""
