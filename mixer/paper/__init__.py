"""The paper as data: what it published, and which of our runs make each number of it."""
