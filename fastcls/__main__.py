"""`python -m fastcls`."""

from fastcls.cli.main import main

main()
