"""The stages, a module each with `run(arguments)`, which prints tables and returns nested dictionaries of figures."""
