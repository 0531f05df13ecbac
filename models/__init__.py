"""Audio models: one family a file, found by `models.registry`; importing this package needs no Keras."""
