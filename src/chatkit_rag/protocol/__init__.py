"""ChatKit's operations and the streaming turn, on ChatKit's own types."""
