"""The steps of the pipeline: read rows, call geometry or an encoder, write rows."""
