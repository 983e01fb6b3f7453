"""Oct4 against MafK: human ChIP-seq peaks."""
