"""``python -m zenhance.cli``, for systems where the script ``zenhance`` is not on the path."""

from zenhance.cli import main

if __name__ == "__main__":
    main()
