"""What the commands of `cli` do on a terminal, a module each kind: one command does not wait for what others import."""
