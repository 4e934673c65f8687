"""The commands and the stats endpoint, as people and Prometheus see them."""
