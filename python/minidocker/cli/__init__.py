"""The command line: ``minidocker`` and ``python -m minidocker``.

==================  ======================================================================
``parser``          the types of options and commands, and the parser (docker's rules)
``options``         the one table of options, for parser, help, completion and manual
``docker``          the options of docker that change nothing here
``flags``           the flags of keywords
``values``          option values: id map rows, environment files, networks, …
``confinement``     option values: mounts, capabilities, resource limits, …
``request``         from a parsed command line to keywords of :class:`minidocker.Popen`
``usage``           the text of ``--help``
``reference``       the option tables of ``docs/cli.md``
``completion``      candidates for a shell's completion
``foreground``      starts a command and supervises it
``terminal``        pseudo terminals
``relay``           pipes for the output of a command that is PID 1
``supervise``       waits for a command, forwards signals
``errors``          output, error messages and exit statuses
``wording``         errors of the package in the words of the command line
``commands``        one module for each subcommand
==================  ======================================================================

Modules are imported only when needed: users start a command line often, so it must start fast.
"""
