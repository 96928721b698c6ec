"""The story of a person, a room or a group in sentences: what is so, why, and what waits (pure)."""
