"""Who carries out many pieces of work: processes of this machine, or a Dask cluster. They know nothing of what the work is."""
