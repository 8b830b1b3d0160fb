"""`python -m gamegirl` is the command `gamegirl`."""

from gamegirl.cli import main

if __name__ == "__main__":
    main()
