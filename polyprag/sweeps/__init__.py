"""Many runs from one file: a grid over configuration keys, its runs one by one, tables and figures of them all."""
