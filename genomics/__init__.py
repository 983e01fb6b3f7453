"""DNA sequence models: readers, splits, tasks, reports and commands on top of `seqmamba`."""
