"""What each command does, once its arguments are read: a module per family of commands.

Results go to stdout, everything else to stderr.
"""
