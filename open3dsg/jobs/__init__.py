"""The work queue: steps shared out over processes and machines, by procrastinate in the same database."""
