"""`python -m paretune.cli`."""

from . import main

main()
