"""The preflight: looks at a dataset's folder and says what is wrong with it. Nothing is written."""
