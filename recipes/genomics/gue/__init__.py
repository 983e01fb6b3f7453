"""Tasks of GUE: human core promoters, transcription factors of mouse and human."""
