"""Training: batches that stream from the store, the network, its losses, the loop."""
