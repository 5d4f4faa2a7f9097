"""The views over the store, one file each; ``nightkiln.store.views`` fills their holes."""
