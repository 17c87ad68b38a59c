"""Methods, one file each; every file is one line in the registry, one page in the docs and one test file."""
