"""Published checkpoint layouts, one a file: each reads a foreign config.json and its weights into our models.

A layout is a function ``import_model(config, weights, where)`` in the entry-point group ``seqmamba.layouts``,
named as the ``model_type`` of its config.json. It gets the content of config.json, all tensors by published
name, and config.json's path for messages; it returns the model with these weights. Any package can add one.
"""
