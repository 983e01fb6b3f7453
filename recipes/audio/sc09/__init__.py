"""Generation of spoken digits of many speakers: SC09."""
