"""What is to be done: the settings of a run, its workflow, and its jobs one after the other."""
