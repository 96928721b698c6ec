"""The SCIM protocol edge: routes, bearer auth, payload validation, storage adapter."""
