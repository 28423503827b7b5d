"""Print what memedit and some of its extras need, one requirement a line, read from pyproject.toml."""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print("\n".join([*project["dependencies"], *(each for extra in sys.argv[1:] for each in extras[extra])]))
