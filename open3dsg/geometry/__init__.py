"""Arrays in, arrays out: no database, no files."""
