"""`python -m abaw_emi` is the command `abaw-emi`."""

from abaw_emi.cli import main

if __name__ == "__main__":
    main()
