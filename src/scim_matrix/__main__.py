"""Run the command line as `python -m scim_matrix`."""

from scim_matrix.cli import main

main()
