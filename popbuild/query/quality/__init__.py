"""What is wanted of a variant's results, and whether it is so: `popbuild test`."""
