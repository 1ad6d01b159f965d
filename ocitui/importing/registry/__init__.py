"""A client for registries (OCI distribution-spec): it reads manifests and blobs, and writes nothing."""
