"""The native layer: rings, PDU cutting, tag scanning, file and journal writing. See _core.pyi."""
