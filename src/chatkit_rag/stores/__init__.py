"""Threads and their items: the `Store` protocol and the stores that keep them."""
