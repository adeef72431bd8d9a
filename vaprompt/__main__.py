"""`python -m vaprompt` is the command `vaprompt`."""

from vaprompt.cli.main import main

if __name__ == "__main__":
    main()
