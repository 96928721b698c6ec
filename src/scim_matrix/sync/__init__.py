"""Reconciliation: plan, guard, backoff and the loop that carries plans out."""
