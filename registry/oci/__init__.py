"""The language that registries and their clients speak, as pure functions: digests, references, descriptors,
manifests, ranges, scopes. No I/O, no state, no idea of who asks.

What comes in is hostile until a function here has read it, and each of them raises nothing but its refusals
(`errors`). Sources: OCI distribution-spec 1.1 and image-spec 1.1 with what was merged after them, Docker's
manifest v2 and token documents, RFC 9110.
"""
