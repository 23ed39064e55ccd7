"""Where the results of operators lie: a rule for each, by what it does to space."""
