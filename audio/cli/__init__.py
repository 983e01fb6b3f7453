"""``seqmamba audio``: verbs for waveforms. Nothing here imports torch before a verb runs."""

HELP = "train, apply and generate with models of raw audio"

VERBS = {
    "fit": "audio.cli.fit",
    "predict": "audio.cli.predict",
    "evaluate": "audio.cli.evaluate",
    "cross-validate": "audio.cli.cross_validate",
    "report": "audio.cli.report",
    "inspect": "audio.cli.inspect",
    "timeline": "audio.cli.timeline",
    "generate": "audio.cli.generate",
    "judge": "audio.cli.judge",
}
"""Verb name -> module with ``HELP``, ``add_arguments`` and ``run``."""
