"""Where a run takes place: device, threads, memory."""
