"""Raw waveform models: readers, codecs and tasks on top of `seqmamba`."""
