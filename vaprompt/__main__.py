"""The process `vaprompt`, which `python -m vaprompt` is, too."""

import sys


def main() -> None:
    """Run the command line that the process was given."""
    try:
        # Loading takes a moment, in which a mistyped line is already interrupted.
        from vaprompt.cli.main import main as run
    except KeyboardInterrupt:
        print("vaprompt: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
