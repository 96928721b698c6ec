"""The service killed, stopped and paused at random moments, and what must hold afterwards."""
