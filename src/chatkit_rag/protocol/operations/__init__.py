"""ChatKit's sixteen operations, one function each."""
