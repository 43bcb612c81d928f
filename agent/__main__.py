"""`python -m agent`: the same as the command `voxmeter`."""

from agent.cli import main

main()
