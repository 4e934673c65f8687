"""Lanes, ledger, writer and watched folders of the sender."""
