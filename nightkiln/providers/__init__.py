"""Places that rent out GPUs, one module each, found by entry points ``nightkiln.providers``."""
