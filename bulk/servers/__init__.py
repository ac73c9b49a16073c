"""What speaks with ComfyUI: its HTTP interface, one job on one server, and the Dask workers that do it."""
