"""torch modules shared by methods: no files, no devices, no training."""
