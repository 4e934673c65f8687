"""How people use it: the command line, the stats endpoint, the developers' check."""
