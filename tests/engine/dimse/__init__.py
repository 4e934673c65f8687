"""Command sets, identifiers and response templates: legal, odd and hostile."""
