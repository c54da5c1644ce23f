"""Vision-language encoders: one contract, one short file a model, found by entry point."""
