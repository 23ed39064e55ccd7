"""Which cases a run has: found in a file, a folder, a pattern, a table, a BIDS dataset or a DICOM tree."""
