"""Limits and what is charged against them. Tables: quota_counter, organization_blob (and `held` of upload).

A counter never passes its limit: it moves only by conditional updates, leaf to root, in the transaction of the
change that it counts. Storage is the sum of the distinct digests that an organization holds.
"""
