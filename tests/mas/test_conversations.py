"""What identity providers say, on a server whose accounts belong to MAS (tests/synapse)."""

from tests.synapse.test_rooms import test_conversations_of_identity_providers

__all__ = ["test_conversations_of_identity_providers"]
