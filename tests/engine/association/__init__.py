"""The two pure machines of an association, driven without a socket or a clock."""
