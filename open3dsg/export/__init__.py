"""What leaves the store as files."""
