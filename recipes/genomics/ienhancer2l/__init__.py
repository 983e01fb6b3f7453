"""iEnhancer-2L: human enhancers of 200 bp."""
