"""``seqmamba genomics``: verbs for DNA. Nothing here imports torch before a verb runs."""

HELP = "train, apply and audit DNA sequence classifiers"

VERBS = {
    "fit": "genomics.cli.fit",
    "predict": "genomics.cli.predict",
    "audit": "genomics.cli.audit",
    "attribute": "genomics.cli.attribute",
    "motifs": "genomics.cli.motifs",
    "bench": "genomics.cli.bench",
    "track": "genomics.cli.track",
    "embed": "genomics.cli.embed",
    "score-variants": "genomics.cli.score_variants",
}
"""Verb name -> module with ``HELP``, ``add_arguments`` and ``run``."""
