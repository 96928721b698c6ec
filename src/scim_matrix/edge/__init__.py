"""The HTTP edge: who may connect, what a request may look like, how much of it is read."""
