"""The same run on dask.distributed: volumes and tiles as tasks, the voxels in a shared OME-Zarr."""
