"""Judgement of results."""
