"""One job carried out for every door: the job's definition, the run, the worker process, the command line."""
