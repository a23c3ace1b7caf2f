"""Repositories and what lies in them: tags, manifests, blobs, uploads on their way.

Tables: repository, tag, manifest, manifest_part, blob, repository_blob, upload, pull_count. Bytes of blobs are kept by
the blob store, once per installation; a repository holds links to them.
"""
