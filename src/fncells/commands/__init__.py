"""The commands: each turns its words into one library call, prints what came of it and gives the exit code.

What a command is asked for goes to standard output; everything said in passing goes to standard error. With ``--json``
standard output holds one JSON object and nothing else. A command's module is imported when the command is run, and what it
needs comes with it: what is slow to import and not always needed is imported where it is used.
"""
