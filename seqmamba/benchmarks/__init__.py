"""What stands behind ``seqmamba bench``: inputs, an independent check, timing, floors, peers, tables.

A speed is reported only beside its check and, where there is one, beside the peer, from the same run.
"""
