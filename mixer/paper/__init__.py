"""The paper as data: its published numbers, the runs that reproduce each of them, and figures."""
