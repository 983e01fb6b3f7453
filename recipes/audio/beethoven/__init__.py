"""Beethoven's piano sonatas, generated as SampleRNN and SaShiMi generate them."""
