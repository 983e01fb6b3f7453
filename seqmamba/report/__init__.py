"""Reports of runs: self-contained HTML pages, and the figures in them. What domains share."""
