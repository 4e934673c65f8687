"""The native layer under sanitizers: fuzz targets, stress programs, and what runs them."""
