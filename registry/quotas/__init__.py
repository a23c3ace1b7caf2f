"""Limits, what is charged against them, and what is told of it. Tables: quota_counter, quota_refund, quota_lease,
organization_blob; traffic_hour and _day, usage_hour and _day; quota_request, quota_recount, quota_difference.

A counter never passes its limit. For each scope, at every instant: charged is what is there, what is held, and what has
been given back and not been taken off yet. It moves by conditional updates, leaf to root, with the commit of the change
that it counts. Storage is the sum of the distinct digests that a repository, an organization, or the organizations of
an account hold.
"""
