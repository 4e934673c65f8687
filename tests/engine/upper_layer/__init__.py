"""PDUs, negotiation and table 9-10."""
