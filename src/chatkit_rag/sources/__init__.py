"""Where an answer may come from."""
