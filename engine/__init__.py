"""What the engine is: protocol, formats, rules and stores, without processes or sockets."""
