"""SCIM 2.0 service that keeps a Matrix homeserver in line with an identity provider."""

__version__ = "0.1.0"
