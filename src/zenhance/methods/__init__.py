"""Methods: each has one folder, one line in the registry, one page in the docs, one test folder."""
