"""JSON Schemas bundled with the package."""
