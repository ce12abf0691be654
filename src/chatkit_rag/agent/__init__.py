"""One answer: what the model is told, what it is given, and what comes out of it."""
