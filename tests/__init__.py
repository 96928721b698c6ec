"""Tests, apart by how real their surroundings are: unit, service, synapse."""
