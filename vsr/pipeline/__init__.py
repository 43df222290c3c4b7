"""Runs and what they consist of: options, session, resume, plan, manifest, profile. The only place
that knows the order of the stages."""
