"""What goes out for a stored file, held against pydicom and DCMTK."""
