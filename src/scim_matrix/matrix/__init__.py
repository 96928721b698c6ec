"""The homeserver behind one small class with typed errors."""
