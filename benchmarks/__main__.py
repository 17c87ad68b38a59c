"""``python -m benchmarks NAME`` measures one experiment of the documentation."""

from benchmarks.runner import main

raise SystemExit(main())
