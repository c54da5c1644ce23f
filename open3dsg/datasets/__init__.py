"""Dataset readers: one file a dataset, all giving the same `Scan`."""
