"""Operation: health, logging."""
