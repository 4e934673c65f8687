"""A receiver's connections over real sockets: order, ends, and back-pressure."""
