"""The generated world and its writers."""
