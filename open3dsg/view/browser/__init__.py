"""The store in a browser: scans as coloured points with their graphs, questions, evidence, corrections.

A page is a `session`; it shares nothing with other pages but the `connections`.
"""
