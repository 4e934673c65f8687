"""Backups, without a service."""
