"""How good search and answers are, as numbers that can be compared."""
