"""A throwaway Synapse, the service and a played identity provider on loopback."""
