"""Objects of the project as rows: scans, clouds, encoders. What steps and queries share."""
