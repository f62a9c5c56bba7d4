"""Where networks come from, a module or a few for each framework."""
